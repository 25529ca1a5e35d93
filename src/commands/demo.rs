//! `rollcall demo`: the whole job, on real servers, from a file of events to rows.

use std::{
    env, fs,
    io::BufWriter,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    io::BufReader,
    process::{Child, Command},
};

use super::{
    needs_database,
    publish::{self, publish},
};
use crate::{
    broker, clock,
    database::{self, MIGRATOR},
    failure::{Failure, Remedy as _},
    scenario::{self, Options, Org, Told},
    servers::Servers,
    settings::{SecretUrl, Settings, Sources},
    shutdown::Signals,
};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// How many events, redeliveries and bad ones included
    #[arg(long, default_value_t = 20_000)]
    events: u64,
    /// Another number is another scenario
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where files are kept while it runs
    #[arg(long, value_name = "DIR", default_value = ".rollcall")]
    dir: PathBuf,
}

const REPLICAS: usize = 2;

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let mut signals = Signals::listen().remedy("start it from a terminal")?;
    let place = tokio::select! {
        place = Place::open(&args.dir) => place.remedy("install PostgreSQL and RabbitMQ, or set DATABASE_URL and AMQP_URL, or run docker compose up")?,
        name = signals.next() => return Err(interrupted(name)),
    };
    let shown = tokio::select! {
        shown = show(args, &place) => shown.remedy("the lines above say how far it came; rollcall servers starts the servers alone"),
        name = signals.next() => Err(interrupted(name)),
    };
    let closed = place.close().await.remedy("look for what is left in the folder named by --dir");
    println!("{}", shown?);
    closed
}

fn interrupted(name: &str) -> Failure {
    Failure::new(format!("stopped by {name}"), "run it again: nothing was left behind")
}

/// The servers that the demo uses, with a database and queues of its own.
struct Place {
    /// None where the environment names servers.
    servers: Option<Servers>,
    settings: Arc<Settings>,
    /// The named server's own database, from which the demo's is created and dropped.
    maintenance: Option<Arc<Settings>>,
    folder: PathBuf,
}

impl Place {
    async fn open(dir: &Path) -> anyhow::Result<Self> {
        let name = format!("rollcall_demo_{}", std::process::id());
        let folder = dir.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        if let (Ok(database), Ok(amqp)) = (env::var("DATABASE_URL"), env::var("AMQP_URL")) {
            let maintenance = settings(&database, &amqp, &name)?;
            let mut connection = database::connect_plainly(&maintenance.database).await?;
            // The name is made of letters and this process's id.
            sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
            let settings = settings(&with_database(&database, &name), &amqp, &name)?;
            return Ok(Self { servers: None, settings, maintenance: Some(maintenance), folder });
        }
        let exe = env::current_exe().context("finding this program")?;
        let dir = dir.to_owned();
        let servers = tokio::task::spawn_blocking(move || Servers::start(&exe, &dir)).await??;
        let settings = settings(servers.database_url(), servers.amqp_url(), &name)?;
        Ok(Self { servers: Some(servers), settings, maintenance: None, folder })
    }

    async fn close(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))?;
        if let Some(parent) = self.folder.parent() {
            // Only if nobody else keeps something there.
            let _ = fs::remove_dir(parent);
        }
        if let Some(servers) = self.servers {
            return tokio::task::spawn_blocking(move || servers.stop()).await?;
        }
        broker::remove(&self.settings.broker).await?;
        if let Some(maintenance) = self.maintenance {
            let mut connection = database::connect_plainly(&maintenance.database).await?;
            let name = &self.settings.broker.prefix;
            sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut connection).await?;
        }
        Ok(())
    }
}

fn settings(database: &str, amqp: &str, prefix: &str) -> anyhow::Result<Arc<Settings>> {
    let environment = [("DATABASE_URL", database), ("AMQP_URL", amqp), ("ROLLCALL_BROKER__PREFIX", prefix)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Ok(Arc::new(Settings::load(&Sources { environment, ..Sources::default() })?))
}

/// The URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').map_or((url, ""), |(base, parameters)| (base, parameters));
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{question}{parameters}", &base[..end])
}

async fn show(args: &Args, place: &Place) -> anyhow::Result<Summary> {
    let settings = &place.settings;
    let file = place.folder.join("events.ndjson");
    let options = Options::new(args.events, clock::now(), args.seed);
    let told = scenario::write(&options, BufWriter::new(fs::File::create(&file)?))?;
    let orgs = scenario::orgs(&options);
    eprintln!("demo: {} events of {} organizations in {}", told.events, orgs.len(), file.display());

    needs_database(settings)?;
    let mut connection = database::connect_plainly(&settings.database).await?;
    MIGRATOR.run(&mut connection).await?;
    create_organizations(&mut connection, &orgs).await?;

    let bar = ProgressBar::new(told.events).with_style(style("publishing"));
    let input = BufReader::new(tokio::fs::File::open(&file).await?);
    let report = publish(settings, input, true, &bar).await?;
    bar.finish_and_clear();
    eprintln!("demo: {report}");

    eprintln!("demo: {REPLICAS} replicas are working");
    let started = Instant::now();
    let bar = ProgressBar::new(told.events).with_style(style("applying"));
    let mut seconds = 0.0;
    // A replica that stops gives back what it did not finish, so the queues are looked at once more after it.
    while waiting(settings).await? > 0 {
        let replicas: Vec<_> = (0..REPLICAS).map(|_| start_replica(settings)).collect::<Result<_, _>>()?;
        let mut replicas = Replicas(replicas);
        loop {
            let left = waiting(settings).await?;
            bar.set_position(told.events.saturating_sub(left));
            replicas.check()?;
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        seconds = started.elapsed().as_secs_f64();
        replicas.stop().await?;
    }
    bar.finish_and_clear();
    Summary::read(&mut connection, told, report, seconds).await
}

fn style(what: &str) -> ProgressStyle {
    let template = format!("demo: {what} {{bar:30}} {{pos}}/{{len}}");
    ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

async fn create_organizations(connection: &mut PgConnection, orgs: &[Org]) -> sqlx::Result<()> {
    for org in orgs {
        sqlx::query("insert into organizations (id, name, timezone) values ($1, $2, $3)")
            .bind(org.id)
            .bind(&org.name)
            .bind(org.timezone)
            .execute(&mut *connection)
            .await?;
        sqlx::query("insert into org_telegram_groups (org_id, tg_chat_id, status) select $1, chat, 'active' from unnest($2::bigint[]) as chat")
            .bind(org.id)
            .bind(&org.chats)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Messages that are ready in all queues.
async fn waiting(settings: &Settings) -> anyhow::Result<u64> {
    let queues = broker::inspect(&settings.broker).await?;
    Ok(queues.iter().filter_map(|queue| queue.messages).map(u64::from).sum())
}

fn start_replica(settings: &Settings) -> anyhow::Result<Child> {
    let exe = env::current_exe().context("finding this program")?;
    let secret = |url: &SecretUrl| url.expose().to_owned();
    let child = Command::new(exe)
        .arg("run")
        .env("DATABASE_URL", secret(&settings.database.url))
        .env("AMQP_URL", secret(&settings.broker.url))
        .env("ROLLCALL_BROKER__PREFIX", &settings.broker.prefix)
        .env("ROLLCALL_HTTP__LISTEN", "127.0.0.1:0")
        .env("ROLLCALL_LOG__FILTER", "warn")
        .stdin(Stdio::null())
        // Ctrl-C is for the demo, which stops the replicas itself.
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    child.context("starting a replica")
}

struct Replicas(Vec<Child>);

impl Replicas {
    fn check(&mut self) -> anyhow::Result<()> {
        for replica in &mut self.0 {
            if let Some(status) = replica.try_wait()? {
                bail!("a replica ended early: {status}");
            }
        }
        Ok(())
    }

    /// Stops them as an operator would, with SIGTERM.
    async fn stop(self) -> anyhow::Result<()> {
        for mut replica in self.0 {
            if let Some(pid) = replica.id() {
                let killed = Command::new("kill").arg(pid.to_string()).status().await.context("running kill")?;
                expect_success(killed, "kill")?;
            }
            expect_success(replica.wait().await?, "a replica")?;
        }
        Ok(())
    }
}

fn expect_success(status: ExitStatus, who: &str) -> anyhow::Result<()> {
    if status.success() { Ok(()) } else { bail!("{who} failed: {status}") }
}

/// What was done.
struct Summary {
    told: Told,
    report: publish::Report,
    seconds: f64,
    rows: Vec<(String, i64)>,
    dead: Vec<(String, i64)>,
}

impl Summary {
    async fn read(
        connection: &mut PgConnection,
        told: Told,
        report: publish::Report,
        seconds: f64,
    ) -> anyhow::Result<Self> {
        let rows = sqlx::query_as(
            "select * from (values
                ('participants', (select count(*) from participants)),
                ('participant_groups', (select count(*) from participant_groups)),
                ('activity_events', (select count(*) from activity_events)),
                ('group_metrics', (select count(*) from group_metrics)),
                ('org_telegram_groups', (select count(*) from org_telegram_groups)),
                ('dead_letters', (select count(*) from dead_letters))
            ) as counted (name, rows)",
        );
        let rows = rows.fetch_all(&mut *connection).await?;
        let dead = sqlx::query_as("select reason, count(*) from dead_letters group by 1 order by 2 desc, 1");
        let dead = dead.fetch_all(&mut *connection).await?;
        connection.ping().await?;
        Ok(Self { told, report, seconds, rows, dead })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Told { events, redelivered, bad } = self.told;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = events as f64 / self.seconds.max(0.001);
        writeln!(f, "\nevents in             {events:>9}   {}", self.report)?;
        writeln!(f, "duplicates absorbed   {redelivered:>9}   published again, no row and no count changed by them")?;
        writeln!(f, "bad events            {bad:>9}   kept as dead letters, their neighbours unharmed")?;
        writeln!(
            f,
            "applied in            {:>7.1} s   {rate:.0} events/s by {REPLICAS} replicas, start included",
            self.seconds
        )?;
        writeln!(f, "\nrows out")?;
        for (name, rows) in &self.rows {
            writeln!(f, "  {name:<19} {rows:>9}")?;
        }
        writeln!(f, "\ndead letters by reason")?;
        for (reason, rows) in &self.dead {
            writeln!(f, "  {reason:<19} {rows:>9}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_changes() {
        assert_eq!(
            with_database("postgres://u:p@h:5432/a?sslmode=require", "b"),
            "postgres://u:p@h:5432/b?sslmode=require"
        );
        assert_eq!(with_database("postgres://h", "b"), "postgres://h/b");
    }
}
