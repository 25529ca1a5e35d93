//! The servers: those that the environment names, or private ones that live as long as this process.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rollcall::servers::Servers;
use sqlx::{Connection as _, PgConnection};

enum Given {
    Named { database: String, amqp: String },
    Private(Servers),
}

// Never dropped, but the pipe to their owner closes with this process, and then it stops them.
static SERVERS: OnceLock<Given> = OnceLock::new();

fn given() -> &'static Given {
    SERVERS.get_or_init(|| {
        if let (Ok(database), Ok(amqp)) = (env::var("DATABASE_URL"), env::var("AMQP_URL")) {
            return Given::Named { database, amqp };
        }
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".rollcall");
        Given::Private(Servers::start(Path::new(env!("CARGO_BIN_EXE_rollcall")), &folder).unwrap())
    })
}

pub fn urls() -> (String, String) {
    match given() {
        Given::Named { database, amqp } => (database.clone(), amqp.clone()),
        // Plain, so that a proxy can stand where the server stood.
        Given::Private(servers) => {
            (format!("{}?sslmode=disable", servers.database_url()), servers.amqp_url().to_owned())
        }
    }
}

/// The private servers; `None` where the environment names others, which nobody may stop.
pub fn private_servers() -> Option<&'static Servers> {
    match given() {
        Given::Named { .. } => None,
        Given::Private(servers) => Some(servers),
    }
}

/// The management API of the broker, which runs from the first call on; `None`, and a line that says so, where the
/// environment names other servers without one.
pub fn management_url() -> Option<String> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let find = || match given() {
        Given::Named { .. } => {
            let url = env::var("ROLLCALL_BROKER__MANAGEMENT_URL").ok();
            if url.is_none() {
                eprintln!("SKIPPED: ROLLCALL_BROKER__MANAGEMENT_URL does not name the broker's management API");
            }
            url
        }
        Given::Private(servers) => {
            let port = free_port();
            servers.rabbitmqctl(&["eval", &START_MANAGEMENT.replace("PORT", &port.to_string())]).unwrap();
            let (_, rest) = servers.amqp_url().split_once("://").unwrap();
            Some(format!("http://{}@127.0.0.1:{port}", rest.split_once('@').unwrap().0))
        }
    };
    URL.get_or_init(|| tokio::task::block_in_place(find)).clone()
}

/// Until the node stops: the file of enabled plugins is as before afterwards, since a start would take the port that
/// everybody has.
const START_MANAGEMENT: &str = r#"
    {ok, File} = application:get_env(rabbit, enabled_plugins_file),
    {ok, Before} = file:read_file(File),
    application:load(rabbitmq_management),
    application:set_env(rabbitmq_management, tcp_config, [{port, PORT}, {ip, "127.0.0.1"}]),
    ok = file:write_file(File, "[rabbitmq_consistent_hash_exchange,rabbitmq_management].\n"),
    {ok, _, _} = rabbit_plugins:ensure(File),
    ok = file:write_file(File, Before)."#;

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection of one who may do everything.
pub async fn base_connection() -> Option<PgConnection> {
    PgConnection::connect(&urls().0).await.ok()
}

/// The log of the private PostgreSQL; that of a named one cannot be read.
pub fn postgres_log() -> Option<PathBuf> {
    match given() {
        Given::Named { .. } => None,
        Given::Private(servers) => Some(servers.postgres_log().to_owned()),
    }
}
