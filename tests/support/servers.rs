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
