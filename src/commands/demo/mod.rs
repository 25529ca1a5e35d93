//! `rollcall demo`: the whole job, on real servers, from a file of events to rows.

mod place;
mod summary;

use std::{
    env, fs,
    io::BufWriter,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgConnection;
use tokio::{
    io::BufReader,
    process::{Child, Command},
};

use super::publish::publish;
use crate::{
    broker, clock,
    database::{self, MIGRATOR},
    failure::{Failure, Remedy as _},
    scenario::{self, Options, Org},
    settings::{SecretUrl, Settings},
    shutdown::Signals,
};
use place::Place;
use summary::Summary;

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
const LEFT: &str = "look for what is left in the folder named by --dir";

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let mut signals = Signals::listen().remedy("start it from a terminal")?;
    let mut opening = pin!(Place::open(&args.dir));
    let opened = tokio::select! {
        opened = &mut opening => opened,
        name = signals.next() => {
            eprintln!("demo: stopping as soon as the servers can be stopped");
            if let Ok(place) = opening.await {
                place.close().await.remedy(LEFT)?;
            }
            return Err(interrupted(name));
        }
    };
    let place =
        opened.remedy("install PostgreSQL and RabbitMQ, or set DATABASE_URL and AMQP_URL, or run docker compose up")?;
    let shown = tokio::select! {
        shown = show(args, &place) => shown.remedy("the lines above say how far it came; rollcall servers starts the servers alone"),
        name = signals.next() => Err(interrupted(name)),
    };
    let closed = place.close().await.remedy(LEFT);
    println!("{}", shown?);
    closed
}

fn interrupted(name: &str) -> Failure {
    Failure::new(format!("stopped by {name}"), "run it again: nothing was left behind")
}

async fn show(args: &Args, place: &Place) -> anyhow::Result<Summary> {
    let settings = &place.settings;
    let file = place.folder.join("events.ndjson");
    let options = Options::new(args.events, clock::now(), args.seed);
    let told = scenario::write(&options, BufWriter::new(fs::File::create(&file)?))?;
    let orgs = scenario::orgs(&options);
    eprintln!("demo: {} events of {} organizations in {}", told.events, orgs.len(), file.display());

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
        let replicas: Vec<_> =
            (0..REPLICAS).map(|_| start_replica(settings, &place.folder)).collect::<Result<_, _>>()?;
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

fn start_replica(settings: &Settings, folder: &Path) -> anyhow::Result<Child> {
    let exe = env::current_exe().context("finding this program")?;
    let secret = |url: &SecretUrl| url.expose().to_owned();
    let mut command = Command::new(exe);
    // The demo has settings of its own: neither the caller's nor a file's may reach only the replicas.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROLLCALL_")) {
        command.env_remove(name);
    }
    let child = command
        .current_dir(folder)
        .arg("run")
        .env("DATABASE_URL", secret(&settings.database.url))
        .env("AMQP_URL", secret(&settings.broker.url))
        .env("ROLLCALL_BROKER__PREFIX", &settings.broker.prefix)
        .env("ROLLCALL_HTTP__LISTEN", "127.0.0.1:0")
        .env("ROLLCALL_LOG__FILTER", format!("warn,{}", broker::SILENT_CLIENT))
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
