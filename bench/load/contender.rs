//! What is measured against each other, and one run of each.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use rollcall::servers::Servers;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    figures::Figures,
    limits,
    load::Load,
    meter::{Counters, Cpu, broker_rests, cpu_of_tree, roll_over},
    report::{ACK, BOTH, SQL},
    scenarios::Scenario,
    support::{
        Place, Replica, command,
        proxy::{Point, Proxy},
    },
};

/// Nothing that works makes no progress for so long.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug, Clone)]
pub enum Contender {
    /// A consumer that only acks.
    Ack,
    /// A release build.
    Program { name: &'static str, path: PathBuf },
    /// The worker's SQL without broker and decoding.
    Sql,
    /// The two limits at once: what they cost when they share the cores and their caches.
    Both,
}

impl Contender {
    pub fn program(name: &'static str, path: &Path) -> Self {
        Self::Program { name, path: path.to_owned() }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack => f.write_str(ACK),
            Self::Program { name, .. } => f.write_str(name),
            Self::Sql => f.write_str(SQL),
            Self::Both => f.write_str(BOTH),
        }
    }
}

/// Where a run happens.
pub struct Run<'a> {
    pub servers: &'a Servers,
    pub scenario: &'a Scenario,
    /// Settings beside the scenario's.
    pub set: &'a [String],
    pub place: &'a Place,
    pub load: &'a Load,
}

impl Run<'_> {
    /// Works off the load, filled beforehand.
    pub async fn measure(&self, contender: &Contender, counts_round_trips: bool) -> anyhow::Result<Figures> {
        let mut limits = Vec::new();
        // It finds out with messages of its own which partition an organization has.
        if matches!(contender, Contender::Sql | Contender::Both) {
            let bodies = self.load.file()?;
            limits.push(self.start_limit(&["sql".into(), bodies.path().display().to_string()]).await?);
        }
        if !matches!(contender, Contender::Sql) {
            self.place.publish(self.load.messages()).await;
            roll_over(self.servers).await?;
        }
        if matches!(contender, Contender::Ack | Contender::Both) {
            limits.push(self.start_limit(&["ack".into(), self.load.events().to_string()]).await?);
        }
        let counters = Counters::at_start(self.place).await?;
        let cpu = Cpu::of(self.servers);
        let mut figures = match contender {
            Contender::Program { path, .. } => self.work_off(path, counts_round_trips).await?,
            Contender::Ack | Contender::Sql | Contender::Both => self.run_limits(limits).await?,
        };
        // What it put off belongs to the run.
        broker_rests(self.servers).await;
        let now = Cpu::of(self.servers);
        ensure!(self.place.ready().await == 0, "{contender} left something in the queues");
        figures.set("cpu_broker_us", self.per_event(now.broker - cpu.broker));
        figures.set("cpu_postgres_us", self.per_event(now.postgres - cpu.postgres));
        Counters::at_end(self.place).await?.since(&counters, self.events(), &mut figures);
        Ok(figures)
    }

    /// Starts the replicas, and waits until all is committed and acked.
    async fn work_off(&self, program: &Path, counts_round_trips: bool) -> anyhow::Result<Figures> {
        let proxy = if counts_round_trips || !self.scenario.latency.is_zero() {
            let proxy = Proxy::to(self.place.settings.database.url.expose()).await;
            proxy.delay(self.scenario.latency);
            Some(proxy)
        } else {
            None
        };
        let url = proxy.as_ref().map_or(self.place.settings.database.url.expose(), Proxy::url);
        let begun = Instant::now();
        let replicas: Vec<_> =
            (0..self.scenario.replicas).map(|_| self.start(program, &[("DATABASE_URL", url)], &[])).collect();
        let trips = proxy.as_ref().map(RoundTrips);
        let mut first_trips = None;
        let (mut last_progress, mut last_acked) = (begun, 0.0);
        loop {
            let acked = sum(&replicas, "rollcall_acked_total").await;
            if acked > last_acked {
                (last_progress, last_acked) = (Instant::now(), acked);
            }
            if acked >= self.events() {
                break;
            }
            ensure!(last_progress.elapsed() < PATIENCE, "{acked} of {} events acked, and no more", self.events());
            if acked > 0.2 * self.events() && first_trips.is_none() {
                first_trips = trips.as_ref().map(|trips| trips.so_far(acked));
            }
            tokio::time::sleep(until_next_look(begun.elapsed(), acked / self.events())).await;
        }
        let mut figures = Figures::default();
        self.set_rate(begun.elapsed(), &mut figures);
        let used = replicas.iter().map(|replica| cpu_of_tree(replica.pid())).sum();
        figures.set("cpu_client_us", self.per_event(used));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let peak = replicas.iter().filter_map(Replica::peak_memory).max().unwrap_or(0) as f64;
        figures.set("peak_rss_mb", peak / f64::from(1 << 20));
        let transactions = sum(&replicas, "rollcall_transactions_total").await;
        figures.set("events_per_transaction", self.events() / transactions);
        if replicas.len() > 1 {
            figures.set("met_share", sum(&replicas, "rollcall_transactions_met_total").await / transactions);
        }
        if let (Some(trips), Some(first)) = (trips, first_trips) {
            trips.so_far(self.events()).since(first, &mut figures);
        }
        for replica in replicas {
            replica.stop().await;
        }
        Ok(figures)
    }

    /// Starts a replica with the scenario's settings.
    pub fn start(&self, program: &Path, environment: &[(&str, &str)], settings: &[String]) -> Replica {
        let mut command = command(program, self.place, environment);
        command.args(self.flags()).args(settings.iter().flat_map(|setting| ["--set", setting])).arg("run");
        // Its end is the benchmark's to decide, also when Ctrl-C ends that.
        command.process_group(0);
        Replica::start_command(command)
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        let set = self.set.iter().map(String::as_str);
        self.scenario.settings.iter().copied().chain(set).flat_map(|setting| ["--set", setting])
    }

    /// Runs limits side by side, each in a process of its own.
    async fn run_limits(&self, mut limits: Vec<Limit>) -> anyhow::Result<Figures> {
        let used: f64 = limits.iter().map(Limit::cpu).sum();
        let begun = Instant::now();
        let transactions: f64 = try_join_all(limits.iter_mut().map(Limit::run)).await?.iter().sum();
        let mut figures = Figures::default();
        self.set_rate(begun.elapsed(), &mut figures);
        if transactions > 0.0 {
            figures.set("events_per_transaction", self.events() / transactions);
        }
        figures.set("cpu_client_us", self.per_event(limits.iter().map(Limit::cpu).sum::<f64>() - used));
        for limit in limits {
            limit.end().await?;
        }
        Ok(figures)
    }

    /// Returns when it waits for the word.
    async fn start_limit(&self, arguments: &[String]) -> anyhow::Result<Limit> {
        let mut command = command(std::env::current_exe()?, self.place, &[]);
        // as in src/main.rs
        command.env("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0");
        command.args(arguments).args(self.flags()).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting a limit")?;
        let (orders, answers) = child.stdin.take().zip(child.stdout.take()).context("a limit has no pipes")?;
        let pid = child.id().context("a limit has no pid")?;
        let mut limit = Limit { child, pid, orders, answers: BufReader::new(answers).lines() };
        limit.expect(limits::READY).await?;
        Ok(limit)
    }

    fn set_rate(&self, time: Duration, figures: &mut Figures) {
        figures.set("seconds", time.as_secs_f64());
        figures.set("events_per_s", self.events() / time.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn events(&self) -> f64 {
        self.load.events() as f64
    }

    fn per_event(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.events()
    }
}

async fn sum(replicas: &[Replica], metric: &str) -> f64 {
    let mut total = 0.0;
    for replica in replicas {
        total += replica.metric(metric).await;
    }
    total
}

/// The process of a limit.
struct Limit {
    child: Child,
    pid: u32,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Limit {
    /// Returns the number of its transactions.
    async fn run(&mut self) -> anyhow::Result<f64> {
        self.orders.write_all(b"go\n").await?;
        self.expect(limits::DONE).await
    }

    fn cpu(&self) -> f64 {
        cpu_of_tree(self.pid)
    }

    async fn end(self) -> anyhow::Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        ensure!(child.wait().await?.success(), "a limit failed");
        Ok(())
    }

    /// The number at the end of the line.
    async fn expect(&mut self, expected: &str) -> anyhow::Result<f64> {
        let line = self.answers.next_line().await?;
        let number = line.as_deref().and_then(|line| line.strip_prefix(expected)?.parse().ok());
        number.with_context(|| format!("a limit said {line:?} instead of {expected}"))
    }
}

/// Answers of the database that a client waited for.
struct RoundTrips<'a>(&'a Proxy);

#[derive(Clone, Copy)]
struct Trips {
    trips: f64,
    transactions: f64,
    events: f64,
}

impl RoundTrips<'_> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn so_far(&self, events: f64) -> Trips {
        let seen = |point| self.0.seen(point) as f64;
        Trips { trips: seen(Point::Ready), transactions: seen(Point::Committed), events }
    }
}

impl Trips {
    /// Since a moment when every statement had been prepared on every connection.
    fn since(self, earlier: Self, figures: &mut Figures) {
        let trips = self.trips - earlier.trips;
        figures.set("round_trips", trips / (self.events - earlier.events));
        figures.set("round_trips_per_transaction", trips / (self.transactions - earlier.transactions));
    }
}

/// Half of the time that is left, as far as is known: asking costs the worker something, so it is asked often only near the end.
fn until_next_look(elapsed: Duration, done: f64) -> Duration {
    let left = elapsed.mul_f64(1.0 / done.max(0.5) - 1.0);
    (left / 2).clamp(Duration::from_millis(10), Duration::from_millis(500))
}
