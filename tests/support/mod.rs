//! What every test needs: servers, a place of its own on them, and workers to run there.

mod amqp;
mod commands;
pub mod community;
mod kit;
pub mod model;
pub mod proxy;
mod servers;
mod worker;

use std::{
    env,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rollcall::{
    broker::{self, Message, Notice, Outbox, PublishError, Publisher, Topology},
    database::MIGRATOR,
    settings::{Settings, Sources},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::sync::Mutex;
use uuid::Uuid;

pub use amqp::RawChannel;
pub use commands::{Ended, dead, dead_json};
pub use kit::Kit;
pub use servers::{base_connection, management_url, postgres_log, private_servers};
pub use worker::{Replica, command, rollcall};

/// Longer than anything here may take on a slow machine; nothing waits this long when it works.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// Whether everything is wanted, as before a release: more events, more ways.
pub fn is_full() -> bool {
    env::var_os("ROLLCALL_TEST_FULL").is_some()
}

/// Polls until the condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    eventually_within(DEADLINE, what, condition).await;
}

/// Polls until the condition holds, for what is slow by nature.
pub async fn eventually_within<F: Future<Output = bool>>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(deadline, polling).await.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"));
}

/// Publishes bodies with their routing keys, each confirmed. What the broker refuses is published again: the leader of a
/// queue that another has just declared may not be up.
pub async fn publish_all(publisher: &Publisher, exchange: &str, bodies: impl IntoIterator<Item = (String, Vec<u8>)>) {
    let mut waiting: Vec<_> = bodies.into_iter().collect();
    let publishing = async {
        while !waiting.is_empty() {
            let mut unconfirmed = Vec::with_capacity(waiting.len());
            for (routing_key, body) in waiting.drain(..) {
                let sent = publisher.send(exchange, &routing_key, None, &body).await.unwrap();
                unconfirmed.push((sent, (routing_key, body)));
            }
            for (sent, message) in unconfirmed {
                match sent.confirmed().await {
                    Ok(()) => {}
                    Err(PublishError::Refused) => waiting.push(message),
                    Err(error) => panic!("not published: {error}"),
                }
            }
        }
    };
    tokio::time::timeout(DEADLINE, publishing).await.expect("the broker refuses what is published");
}

/// Publishes bodies with their routing keys, however often the broker goes away meanwhile; returns how many were
/// confirmed.
pub async fn publish_through_outages(settings: &Settings, bodies: &[(String, Vec<u8>)]) -> u64 {
    let mut confirmed = 0;
    let mut outbox = Outbox::new(settings, |notice| match notice {
        Notice::Confirmed => confirmed += 1,
        Notice::Rejected(number, problem) => panic!("event {number} was rejected: {problem}"),
        Notice::Waiting(..) => {}
    });
    for (number, (routing_key, body)) in (0..).zip(bodies) {
        outbox.send(Message { number, routing_key: routing_key.clone(), body: body.clone() }).await;
    }
    outbox.finish().await;
    confirmed
}

/// What the next places are copied from, since to migrate each takes four times as long. It goes with the last of them.
static MIGRATED: Mutex<Weak<Place>> = Mutex::const_new(Weak::new());

/// Databases that go with the private server instead of being dropped, of 10 MB each: a drop waits for a checkpoint, and a file
/// system that has just deleted thousands of files is slow to create others.
const LEFT: usize = 250;

/// A database and a broker prefix of a test's own, removed when dropped.
pub struct Place {
    pub settings: Arc<Settings>,
    pub name: String,
    base_url: String,
    /// Whose database it is, where that is not whose server it is.
    role: Option<Role>,
    /// What it was copied from.
    template: Option<Arc<Place>>,
}

/// An account without special rights.
#[derive(Clone)]
struct Role {
    name: String,
    password: String,
    /// Removes the account when it is dropped; copies of a place leave it.
    is_owned: bool,
}

impl Place {
    /// An empty, migrated place.
    pub async fn new() -> Self {
        let mut migrated = MIGRATED.lock().await;
        let template = if let Some(template) = migrated.upgrade() {
            template
        } else {
            let template = Arc::new(Self::unmigrated().await);
            template.migrate().await;
            *migrated = Arc::downgrade(&template);
            template
        };
        drop(migrated);
        let mut place = Self::create(None, &format!(" template {}", template.name)).await;
        place.template = Some(template);
        place
    }

    async fn migrate(&self) {
        let mut connection = self.connect().await;
        MIGRATOR.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// An empty database without a schema.
    pub async fn unmigrated() -> Self {
        Self::create(None, "").await
    }

    /// An empty, migrated place that belongs to an account of its own without special rights, to be copied.
    pub async fn template() -> Self {
        let (name, password) =
            (format!("rollcall_test_{}", Uuid::new_v4().simple()), Uuid::new_v4().simple().to_string());
        let create = format!("create role {name} login password '{password}'");
        let mut base = PgConnection::connect(&servers::urls().0).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut base).await.unwrap();
        let owner = format!(" owner {name}");
        let place = Self::create(Some(Role { name, password, is_owned: true }), &owner).await;
        place.migrate().await;
        place
    }

    /// A place with the same rows and the same owner.
    pub async fn copy(&self) -> Self {
        let role = self.role.as_ref().expect("a template");
        let options = format!(" template {} owner {}", self.name, role.name);
        Self::create(Some(Role { is_owned: false, ..role.clone() }), &options).await
    }

    async fn create(role: Option<Role>, options: &str) -> Self {
        let (base_url, amqp_url) = servers::urls();
        let name = format!("rollcall_test_{}", Uuid::new_v4().simple());
        let statement = format!("create database {name}{options}");
        // A template may have had a connection a moment ago.
        eventually("the database is created", async || {
            let Ok(mut base) = PgConnection::connect(&base_url).await else { return false };
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut base).await.is_ok()
        })
        .await;
        let url = with_database(&base_url, &name);
        let url = role.as_ref().map_or_else(|| url.clone(), |role| with_role(&url, role));
        let environment = [("DATABASE_URL", url), ("AMQP_URL", amqp_url), ("ROLLCALL_BROKER__PREFIX", name.clone())];
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let settings = Arc::new(Settings::load(&Sources { environment, ..Sources::default() }).unwrap());
        Self { settings, name, base_url, role, template: None }
    }

    /// The database, for one who may do everything.
    pub fn superuser_url(&self) -> String {
        with_database(&self.base_url, &self.name)
    }

    /// Whose database it is.
    pub fn role(&self) -> &str {
        &self.role.as_ref().expect("a template or its copy").name
    }

    /// The password of [`Self::role`].
    pub fn password(&self) -> &str {
        &self.role.as_ref().expect("a template or its copy").password
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.settings.database.url.expose()).await.unwrap()
    }

    /// Declares the queues and publishes bodies as they are, each confirmed.
    pub async fn publish(&self, bodies: impl IntoIterator<Item = (String, Vec<u8>)>) {
        broker::declare(&self.settings.broker).await.unwrap();
        let exchange = Topology::new(&self.settings.broker).events_exchange();
        self.publish_to(&exchange, bodies).await;
    }

    pub async fn publish_to(&self, exchange: &str, bodies: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let publisher = Publisher::open(&self.settings.broker).await.unwrap();
        publish_all(&publisher, exchange, bodies).await;
        publisher.close().await;
    }

    /// Messages that are ready in all queues.
    pub async fn ready(&self) -> u64 {
        let queues = broker::inspect(&self.settings.broker).await.unwrap();
        queues.iter().filter_map(|queue| queue.messages).map(u64::from).sum()
    }

    /// Consumers of all queues, with those that are gone and whose messages are not back.
    async fn consumers(&self) -> u32 {
        broker::inspect(&self.settings.broker).await.unwrap().iter().map(|queue| queue.consumers).sum()
    }

    /// As [`Self::ready`]; `None` while the broker is away or a queue is missing.
    pub async fn try_ready(&self) -> Option<u64> {
        let queues = tokio::time::timeout(Duration::from_secs(5), broker::inspect(&self.settings.broker)).await;
        queues.ok()?.ok()?.iter().map(|queue| queue.messages.map(u64::from)).sum()
    }

    /// Runs replicas until every queue is empty, with nothing held back by anybody.
    pub async fn work_off(&self, replicas: usize, environment: &[(&str, &str)]) {
        loop {
            // What those that are gone had not finished comes back with the end of their consumers.
            eventually("nobody consumes", async || self.consumers().await == 0).await;
            if self.ready().await == 0 {
                return;
            }
            let running: Vec<_> = (0..replicas).map(|_| Replica::start(self, environment)).collect();
            // What is delivered while a replica still opens its connection is ready no more, and not begun.
            let consumed = async || {
                let queues = broker::inspect(&self.settings.broker).await.unwrap();
                queues.last().is_some_and(|dead| dead.consumers as usize >= replicas)
            };
            eventually("the dead letters are consumed", consumed).await;
            eventually("the queues are empty", async || self.ready().await == 0).await;
            for replica in running {
                replica.stop().await;
            }
        }
    }

    /// Every column of every row of the worker's tables, sorted; of the dead letters without what a
    /// second delivery may change.
    pub async fn contents(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let mut rows = Vec::new();
        for query in [
            "select 'organizations ' || t::text from organizations t order by 1",
            "select 'org_telegram_groups ' || t::text from org_telegram_groups t order by 1",
            "select 'participants ' || t::text from participants t order by 1",
            "select 'participant_groups ' || t::text from participant_groups t order by 1",
            "select 'activity_events ' || t::text from activity_events t order by 1",
            "select 'group_metrics ' || t::text from group_metrics t order by 1",
            "select 'dead_letters ' || (id, reason, detail, org_id, routing_key, body, status, resolved_at)::text from dead_letters order by 1",
        ] {
            let found = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
            rows.extend(found.into_iter().map(|row| row.get::<String, _>(0)));
        }
        rows
    }

    /// Days of chats with figures above, and below, a recount of their events.
    pub async fn recount(&self) -> (i64, i64) {
        sqlx::query_as(include_str!("recount.sql")).fetch_one(&mut self.connect().await).await.unwrap()
    }

    /// The metrics equal what a recount of the events gives.
    pub async fn assert_metrics_recompute(&self) {
        assert_eq!(self.recount().await, (0, 0), "days with figures above and below a recount");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        static GONE: AtomicUsize = AtomicUsize::new(0);
        let is_left = private_servers().is_some() && GONE.fetch_add(1, Ordering::Relaxed) < LEFT;
        let (settings, base_url, name) = (Arc::clone(&self.settings), self.base_url.clone(), self.name.clone());
        let role = self.role.take().filter(|role| role.is_owned).map(|role| role.name);
        // A runtime of its own: this may run inside of another one. What fails here fails no test; a
        // server that is named by the environment is only left a little less tidy.
        let cleaning = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let _ = broker::remove(&settings.broker).await;
                if !is_left && let Ok(mut base) = PgConnection::connect(&base_url).await {
                    let drop = AssertSqlSafe(format!("drop database if exists {name} with (force)"));
                    let _ = sqlx::raw_sql(drop).execute(&mut base).await;
                    if let Some(role) = role {
                        let _ = sqlx::raw_sql(AssertSqlSafe(format!("drop role {role}"))).execute(&mut base).await;
                    }
                }
            });
        });
        let _ = cleaning.join();
    }
}

fn with_role(url: &str, role: &Role) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{}:{}@{place}", role.name, role.password)
}

fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = base.rsplit_once('/').unwrap();
    if parameters.is_empty() { format!("{server}/{name}") } else { format!("{server}/{name}?{parameters}") }
}
