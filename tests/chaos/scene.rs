//! One run: servers, proxies, replicas, a publisher, and a fault that happens to them.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use rollcall::{
    broker::{Publisher, Topology},
    servers::Servers,
};
use sqlx::{Connection as _, PgConnection};
use tokio::{process::Command, task::JoinHandle};

use crate::{
    detector::Detector,
    load::{Effect, Load},
    support::{
        Place, Replica,
        proxy::{Point, Proxy},
        publish_all, publish_through_outages, rollcall,
    },
};

/// Longer than any recovery may take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Little is held and done at once, so that faults meet many batches; and no wait is longer than a run.
const SETTINGS: [(&str, &str); 11] = [
    ("ROLLCALL_BROKER__PREFETCH", "50"),
    ("ROLLCALL_BATCH__MAX_EVENTS", "50"),
    ("ROLLCALL_BATCH__MAX_TRANSACTION_EVENTS", "100"),
    ("ROLLCALL_RETRY__FIRST", "20ms"),
    ("ROLLCALL_RETRY__LONGEST", "500ms"),
    ("ROLLCALL_BROKER__CONNECT_TIMEOUT", "2s"),
    ("ROLLCALL_BROKER__CONFIRM_TIMEOUT", "2s"),
    ("ROLLCALL_DATABASE__CONNECT_TIMEOUT", "2s"),
    ("ROLLCALL_DATABASE__STATEMENT_TIMEOUT", "2s"),
    ("ROLLCALL_DATABASE__LOCK_TIMEOUT", "500ms"),
    ("ROLLCALL_DATABASE__TRANSACTION_TIMEOUT", "3s"),
];

/// Shares of the load that are kept back, one for each time that something happens and a few more: there is always
/// something left to commit, so that recovery can be measured. One is a hundredth of the load.
const KEPT_BACK: usize = 35;

/// How many events come first.
fn not_kept_back(load: &Load) -> usize {
    load.bodies.len() - load.bodies.len() / 100 * KEPT_BACK
}

/// What a run consists of.
pub struct Scene {
    pub place: Place,
    pub load: Arc<Load>,
    pub database: Proxy,
    pub broker: Proxy,
    pub detector: Arc<Detector>,
    pub replicas: Vec<Replica>,
    /// The servers, where they are the harness's own.
    pub servers: Option<&'static Servers>,
    pub random: fastrand::Rng,
    /// From the end of a fault to the next commit.
    pub recoveries: Vec<Duration>,
    /// How often the fault happened, and how often it was to.
    pub reached: u32,
    pub wanted: u32,
    pub peak_memory: u64,
    environment: Vec<(String, String)>,
    publishers: Vec<JoinHandle<u64>>,
    kept_back: Range<usize>,
    /// What is done to the servers after the verdict, so that the next run finds them as this one did.
    pub undo: Vec<BoxFuture<'static, ()>>,
    begun: Instant,
    /// How long anything may take.
    pub patience: Duration,
}

impl Scene {
    /// Starts everything but the publisher.
    pub async fn set(
        place: Place,
        load: Arc<Load>,
        servers: Option<&'static Servers>,
        settings: &[(&str, &str)],
        replicas: usize,
    ) -> Self {
        let database = Proxy::to(place.settings.database.url.expose()).await;
        let broker = Proxy::to(place.settings.broker.url.expose()).await;
        let dead_exchange = Topology::new(&place.settings.broker).dead_exchange();
        let detector = Arc::new(Detector::new(Arc::clone(&load), place.superuser_url(), dead_exchange));
        broker.watch(Arc::clone(&detector) as Arc<_>);
        let separator = if broker.url().contains('?') { '&' } else { '?' };
        let urls = [
            ("DATABASE_URL".to_owned(), database.url().to_owned()),
            ("AMQP_URL".to_owned(), format!("{}{separator}heartbeat=2", broker.url())),
        ];
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let environment =
            urls.into_iter().chain(SETTINGS.iter().map(owned)).chain(settings.iter().map(owned)).collect();
        let kept_back = not_kept_back(&load)..load.bodies.len();
        let mut scene = Self {
            random: fastrand::Rng::with_seed(load.seed),
            place,
            load,
            database,
            broker,
            detector,
            replicas: Vec::new(),
            servers,
            recoveries: Vec::new(),
            reached: 0,
            wanted: 0,
            peak_memory: 0,
            environment,
            publishers: Vec::new(),
            kept_back,
            undo: Vec::new(),
            begun: Instant::now(),
            patience: PATIENCE,
        };
        for _ in 0..replicas {
            scene.add_replica();
        }
        scene
    }

    /// Publishes the load but for what is kept back, in the background; what breaks is published again.
    pub fn publish(&mut self) {
        self.publish_range(0..not_kept_back(&self.load));
    }

    /// As [`Self::publish`], the first half only.
    pub fn publish_half(&mut self) {
        self.publish_range(0..not_kept_back(&self.load) / 2);
    }

    /// As [`Self::publish`], the other half.
    pub fn publish_rest(&mut self) {
        let end = not_kept_back(&self.load);
        self.publish_range(end / 2..end);
    }

    /// Publishes a share of what is kept back, if there is one.
    pub fn publish_share(&mut self) -> bool {
        let Range { start, end } = self.kept_back;
        let middle = end.min(start + self.load.bodies.len() / 100);
        self.kept_back = middle..end;
        self.publish_range(start..middle);
        start < middle
    }

    /// Publishes what is kept back up to the next dead letter that comes only once, and declares nothing; returns its
    /// body.
    pub fn publish_to_letter(&mut self) -> Vec<u8> {
        let Range { start, end } = self.kept_back;
        let bodies = &self.load.bodies;
        let is_only = |body| bodies.iter().filter(|(_, other)| other == body).count() == 1;
        let is_letter = |body| matches!(self.load.effects[body], Effect::Dead(_)) && is_only(body);
        let index = (start..end).find(|index| is_letter(&bodies[*index].1)).expect("three in a hundred are bad");
        let letter = bodies[index].1.clone();
        self.kept_back = index + 1..end;
        let (settings, load) = (Arc::clone(&self.place.settings), Arc::clone(&self.load));
        self.publishers.push(tokio::spawn(async move {
            let bodies = &load.bodies[start..=index];
            let publisher = Publisher::open(&settings.broker).await.unwrap();
            let exchange = Topology::new(&settings.broker).events_exchange();
            publish_all(&publisher, &exchange, bodies.iter().cloned()).await;
            publisher.close().await;
            bodies.len() as u64
        }));
        letter
    }

    /// Publishes all that is still kept back.
    pub fn publish_kept_back(&mut self) {
        let all = std::mem::take(&mut self.kept_back);
        self.publish_range(all);
    }

    fn publish_range(&mut self, range: Range<usize>) {
        let (settings, load) = (Arc::clone(&self.place.settings), Arc::clone(&self.load));
        self.publishers
            .push(tokio::spawn(async move { publish_through_outages(&settings, &load.bodies[range]).await }));
    }

    /// Waits until all is published; returns how many events were confirmed.
    pub async fn published(&mut self) -> u64 {
        let mut confirmed = 0;
        for publisher in self.publishers.drain(..) {
            confirmed += publisher.await.unwrap();
        }
        confirmed
    }

    /// Waits until something more is committed, or nothing is left to be.
    pub async fn progress(&mut self) -> Result<(), String> {
        let before = self.database.seen(Point::Committed);
        let deadline = Instant::now() + self.patience;
        let mut polls = 0_u32;
        while self.database.seen(Point::Committed) == before {
            polls += 1;
            if polls.is_multiple_of(50) && self.is_drained().await {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("nothing was committed within {:?}", self.patience));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        while !holds().await {
            if Instant::now() > deadline {
                return Err(format!("not within {:?}: {what}", self.patience));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until the worker has declared again what was deleted.
    pub async fn queues_are_back(&self) -> Result<(), String> {
        self.until("the queues are back", async || self.place.try_ready().await.is_some()).await
    }

    /// Waits until all that was published is applied and archived, with nothing on its way.
    pub async fn emptied(&self) -> Result<(), String> {
        self.until("nothing is on its way", async || self.is_drained().await && self.is_idle().await).await
    }

    /// Whether a replica has logged this.
    pub fn is_told(&self, text: &str) -> bool {
        self.replicas.iter().any(|replica| replica.log().contains(text))
    }

    /// Waits until a replica has logged this.
    pub async fn told(&self, text: &str) -> Result<(), String> {
        self.until(&format!("a replica tells of {text}"), async || self.is_told(text)).await
    }

    /// Whether no replica holds anything, and each can account for all that it got.
    pub async fn is_idle(&self) -> bool {
        for replica in &self.replicas {
            let Some(metrics) = replica.metrics().await else { return false };
            let is_zero = |name: &str| metrics.get(name) == Some(&0.0);
            if !is_zero("rollcall_in_flight") || !is_zero("rollcall_balance") {
                return false;
            }
        }
        self.archived().await
    }

    /// Whether every dead letter that was confirmed is in the table.
    async fn archived(&self) -> bool {
        let confirmed = self.detector.letters();
        let count = "select count(*) from dead_letters";
        let Ok(mut connection) = PgConnection::connect(&self.place.superuser_url()).await else { return false };
        let archived = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection).await;
        archived.is_ok_and(|archived| usize::try_from(archived).unwrap() >= confirmed)
    }

    /// Does something to the servers.
    pub async fn with_servers<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&'static Servers) -> anyhow::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let servers = self.servers.expect("servers of the harness's own");
        let done = tokio::task::spawn_blocking(move || deed(servers)).await.unwrap();
        done.map_err(|error| format!("{error:#}"))
    }

    /// Since the replicas started, which declare the queues.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn add_replica(&mut self) {
        self.replicas.push(Replica::start_command(self.command()));
    }

    /// What starts a replica.
    pub fn command(&self) -> Command {
        let environment: Vec<_> = self.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let mut command = rollcall(&self.place, &environment);
        command.arg("run");
        command
    }

    /// Sets something for all replicas that start from now on.
    pub fn set_variable(&mut self, key: &str, value: String) {
        self.environment.push((key.to_owned(), value));
    }

    /// Notes the memory of all replicas.
    pub fn weigh(&mut self) {
        for replica in &self.replicas {
            self.peak_memory = self.peak_memory.max(replica.peak_memory().unwrap_or(0));
        }
    }

    /// Starts another one in the place of a replica that is dead or dying.
    pub async fn replace(&mut self, index: usize) {
        self.weigh();
        self.replicas.swap_remove(index).kill().await;
        self.add_replica();
    }

    /// Does something so often, each time when something more was committed, and each time until it is recovered from.
    pub async fn strike(
        &mut self,
        times: u32,
        mut deed: impl AsyncFnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.wanted = times;
        for _ in 0..times {
            self.progress().await?;
            deed(self).await?;
            self.recovered(Instant::now()).await?;
        }
        Ok(())
    }

    /// Notes a fault that has happened, and how long after `since` something was committed again: a share of the load
    /// is published for that.
    pub async fn recovered(&mut self, since: Instant) -> Result<(), String> {
        self.reached += 1;
        self.publish_share();
        let deadline = since + self.patience;
        let mut polls = 0_u32;
        loop {
            if let Some(at) = self.database.last_seen(Point::Committed).filter(|at| *at > since) {
                self.recoveries.push(at - since);
                return Ok(());
            }
            polls += 1;
            if polls.is_multiple_of(50) && self.is_drained().await && self.is_idle().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("nothing was committed within {:?} after the fault", self.patience));
            }
            self.weigh();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether all is published and nothing waits in a queue.
    pub async fn is_drained(&self) -> bool {
        self.publishers.iter().all(JoinHandle::is_finished) && self.place.try_ready().await == Some(0)
    }
}
