//! Single private servers can be stopped and started in between, and a pair leaves nothing behind.

use std::{env, fs, path::Path, process::Command};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rollcall::{
    broker::{self, Publisher, Topology},
    servers::{PostgresStop, RabbitMqStop, Servers},
    settings::{Settings, Sources},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::task::{JoinHandle, block_in_place};

use crate::support::eventually;

const QUEUE: &str = "durable";

/// One test, since each part takes the servers away from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_servers_stop_and_start_as_they_are_told_and_leave_nothing() {
    if ["DATABASE_URL", "AMQP_URL"].iter().all(|name| env::var_os(name).is_some()) {
        eprintln!("SKIPPED: DATABASE_URL and AMQP_URL name servers, so that none may be started");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".rollcall");
    let start = || Servers::start(Path::new(env!("CARGO_BIN_EXE_rollcall")), &folder).unwrap();
    let servers = block_in_place(start);
    assert_says_no_password(&servers, &format!("{servers:?}"));
    rows_survive_every_stop_of_postgres(&servers).await;
    messages_survive_every_stop_of_rabbitmq(&servers).await;
    rabbitmqctl_answers_or_says_why_not(&servers);
    without_the_hash_plugin_there_is_one_partition(&servers).await;
    nothing_remains_of(servers);
}

/// No queue of more partitions is left either, which replicas would take for surplus ones.
async fn without_the_hash_plugin_there_is_one_partition(servers: &Servers) {
    let disable = r#"
        {ok, File} = application:get_env(rabbit, enabled_plugins_file),
        ok = file:write_file(File, "[].\n"),
        {ok, _, _} = rabbit_plugins:ensure(File)."#;
    block_in_place(|| servers.rabbitmqctl(&["eval", disable])).unwrap();
    let environment = [("AMQP_URL".to_owned(), servers.amqp_url().to_owned())].into();
    let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap().broker;
    assert!(settings.partitions > 1);
    for _ in 0..2 {
        let topology = broker::declare(&settings).await.unwrap();
        assert_eq!((topology.partitions(), topology.surplus_queues().count()), (1, 0));
    }
    let publisher = Publisher::open(&settings).await.unwrap();
    let exchange = Topology::new(&settings).events_exchange();
    publisher.send(&exchange, "any key", None, b"body").await.unwrap().confirmed().await.unwrap();
    publisher.close().await;
    eventually("the event is in the queue", async || {
        let queues = broker::inspect(&settings).await.unwrap();
        let messages: Vec<_> = queues.iter().map(|queue| queue.messages).collect();
        messages == [Some(1), None, None, None, Some(0)]
    })
    .await;
}

async fn rows_survive_every_stop_of_postgres(servers: &Servers) {
    let folder = servers.dir().join("postgres");
    sqlx::raw_sql("create table committed (number int)").execute(&mut connect(servers).await).await.unwrap();
    let manners = [PostgresStop::Fast, PostgresStop::Immediate, PostgresStop::Kill];
    for (number, manner) in (1..).zip(manners) {
        let _open = commit_one_of_two(servers, number).await;
        let busy = busy_backend(servers).await;
        let pid = servers.postgres_pid();
        block_in_place(|| servers.stop_postgres(manner)).unwrap();
        assert_eq!(processes_in(&folder), [""; 0], "after {manner:?}");
        assert!(PgConnection::connect(servers.database_url()).await.is_err());
        block_in_place(|| servers.stop_postgres(manner)).expect("nothing to stop");

        block_in_place(|| servers.start_postgres()).unwrap();
        assert_ne!(servers.postgres_pid(), pid);
        assert_eq!(committed(servers).await, number, "after {manner:?}");
        busy.await.unwrap();
    }

    let busy = busy_backend(servers).await;
    kill(servers.postgres_pid());
    block_in_place(|| servers.start_postgres()).expect("a start after it died by itself");
    assert_eq!(committed(servers).await, 3);
    busy.await.unwrap();
    let pid = servers.postgres_pid();
    block_in_place(|| servers.start_postgres()).expect("nothing to start");
    assert_eq!(servers.postgres_pid(), pid);
    assert!(fs::exists(Path::new("/proc").join(pid.to_string())).unwrap());
}

async fn messages_survive_every_stop_of_rabbitmq(servers: &Servers) {
    let folder = servers.rabbitmq_log().with_file_name("rabbitmq");
    let channel = open_channel(servers).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, arguments).await.unwrap();

    // The gentle one first: a queue that was declared in the second before a kill may be lost, however durable.
    let stops = [Some(RabbitMqStop::Graceful), Some(RabbitMqStop::Kill), None];
    for manner in stops {
        publish(&open_channel(servers).await).await;
        let pid = servers.rabbitmq_pid();
        if let Some(manner) = manner {
            block_in_place(|| servers.stop_rabbitmq(manner)).unwrap();
            assert_eq!(processes_in(&folder), [""; 0], "after {manner:?}");
            let error = block_in_place(|| servers.rabbitmqctl(&["list_queues"])).unwrap_err();
            assert_eq!(error.to_string(), "RabbitMQ does not run");
            block_in_place(|| servers.stop_rabbitmq(manner)).expect("nothing to stop");
        } else {
            kill(pid);
        }
        block_in_place(|| servers.start_rabbitmq()).unwrap();
        assert_ne!(servers.rabbitmq_pid(), pid);
    }
    let channel = open_channel(servers).await;
    for _ in stops {
        eventually("the next message is there", async || {
            let got = channel.basic_get(QUEUE.into(), BasicGetOptions { no_ack: true }).await.unwrap();
            got.is_some_and(|message| message.delivery.data == b"kept")
        })
        .await;
    }
    let kind = ExchangeKind::Custom("x-consistent-hash".into());
    let declared =
        channel.exchange_declare("hashed".into(), kind, ExchangeDeclareOptions::default(), FieldTable::default());
    declared.await.expect("the plugin is still enabled");
}

fn rabbitmqctl_answers_or_says_why_not(servers: &Servers) {
    let queues = block_in_place(|| servers.rabbitmqctl(&["--quiet", "list_queues", "name", "type", "messages"]));
    assert_eq!(queues.unwrap().lines().last(), Some("durable\tquorum\t0"));
    let absent = block_in_place(|| servers.rabbitmqctl(&["delete_queue", "absent"])).unwrap_err();
    assert!(absent.to_string().contains("not found"), "{absent:#}");
    let password = password(servers.amqp_url());
    let wrong = block_in_place(|| servers.rabbitmqctl(&["authenticate_user", "nobody", password])).unwrap_err();
    assert_says_no_password(servers, &format!("{wrong:#} {wrong:?}"));
}

fn nothing_remains_of(servers: Servers) {
    let folders = [servers.dir().to_owned(), servers.rabbitmq_log().parent().unwrap().to_owned()];
    for folder in &folders {
        assert_ne!(processes_in(folder), [""; 0], "{}", folder.display());
    }
    block_in_place(|| servers.stop()).unwrap();
    for folder in &folders {
        assert!(!folder.exists(), "{}", folder.display());
        assert_eq!(processes_in(folder), [""; 0]);
    }
}

async fn connect(servers: &Servers) -> PgConnection {
    PgConnection::connect(servers.database_url()).await.unwrap()
}

/// Commits a row, and leaves another one in the open transaction of the connection that it returns.
async fn commit_one_of_two(servers: &Servers, number: i64) -> PgConnection {
    let mut connection = connect(servers).await;
    let insert = format!("insert into committed values ({number})");
    let statements = format!("begin; {insert}; commit; begin; {insert}");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
    connection
}

async fn committed(servers: &Servers) -> i64 {
    sqlx::query_scalar("select count(*) from committed").fetch_one(&mut connect(servers).await).await.unwrap()
}

/// A backend that computes, and so would not notice for long that its postmaster is gone.
async fn busy_backend(servers: &Servers) -> JoinHandle<()> {
    let mut connection = connect(servers).await;
    let busy = tokio::spawn(async move {
        let endless = "select count(*) from (select generate_series(1, 1e15::bigint)) endless";
        assert!(sqlx::query(endless).execute(&mut connection).await.is_err(), "ended by the stop");
    });
    eventually("it computes", async || {
        let computes =
            "select exists (select from pg_stat_activity where state = 'active' and query like '%) endless')";
        sqlx::query_scalar(computes).fetch_one(&mut connect(servers).await).await.unwrap()
    })
    .await;
    busy
}

async fn open_channel(servers: &Servers) -> Channel {
    let connection = Connection::connect(servers.amqp_url(), ConnectionProperties::default()).await.unwrap();
    connection.create_channel().await.unwrap()
}

async fn publish(channel: &Channel) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let sent = channel.basic_publish("".into(), QUEUE.into(), BasicPublishOptions::default(), b"kept", properties);
    assert!(sent.await.unwrap().await.unwrap().is_ack());
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().unwrap().success());
}

/// The names of processes whose environment names this folder or one in it, and of PostgreSQL's, which overwrite
/// theirs, that work there.
fn processes_in(folder: &Path) -> Vec<String> {
    let is_below = |value: &str| Path::new(value).starts_with(folder);
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let ours = processes.filter_map(|process| {
        let name = fs::read_to_string(process.join("comm")).ok()?;
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        let working = fs::read_link(process.join("cwd")).unwrap_or_default();
        let names_it = String::from_utf8_lossy(&environment).split(['=', '\0']).any(is_below);
        (names_it || (name == "postgres\n" && working.starts_with(folder))).then_some(name)
    });
    ours.collect()
}

fn password(url: &str) -> &str {
    url.split(['@', ':']).nth(2).unwrap()
}

fn assert_says_no_password(servers: &Servers, text: &str) {
    for url in [servers.database_url(), servers.amqp_url()] {
        assert!(!password(url).is_empty() && !text.contains(password(url)), "{text}");
    }
}
