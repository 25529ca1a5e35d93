//! Load: what the worker reaches, and how far that is from what the servers allow. `cargo bench --bench load --
//! --help`; README.md in the folder above says what each figure means.

mod calls;
mod contender;
mod figures;
mod limits;
mod load;
mod meter;
mod options;
mod plot;
mod postgres;
mod report;
mod scenarios;
mod statements;
mod steady;
#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use the rest")]
mod support;

use std::{
    collections::BTreeMap,
    env, fs, iter,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail};
use clap::Parser as _;
use rollcall::{clock, servers::Servers, shutdown::Signals};
use sqlx::{Connection as _, PgConnection};
use tikv_jemallocator::Jemalloc;

use contender::{Contender, Run};
use figures::Figures;
use load::{Ground, Loads};
use options::Options;
use report::{Done, Measured, Report};
use scenarios::{Measure, Scenario};

/// The worker's, so that the limits have no other.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    // The servers' CPU time is measured, so they are always private.
    let named = ["DATABASE_URL", "AMQP_URL"];
    if options.limit.is_none() && named.iter().any(|name| env::var_os(name).is_some()) {
        let mut again = Command::new(env::current_exe().expect("this program"));
        for name in named {
            again.env_remove(name);
        }
        eprintln!("load: without them: {}", again.args(env::args_os().skip(1)).exec());
        return ExitCode::FAILURE;
    }
    match run(&options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(limit) = &options.limit {
        limits::run(limit).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.list {
        for scenario in scenarios::ALL {
            println!("{:<24}{}", scenario.name, scenario.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        eprintln!("NOT RUN: cargo bench --bench load");
        return Ok(ExitCode::SUCCESS);
    }
    let mut signals = Signals::listen()?;
    tokio::select! {
        done = measure_all(options) => done.map(|()| ExitCode::SUCCESS),
        // The servers stop when this process has ended.
        name = signals.next() => Err(anyhow!("stopped by {name}")),
    }
}

async fn measure_all(options: &Options) -> anyhow::Result<()> {
    let chosen = options.chosen().map_err(|problem| anyhow!(problem))?;
    let programs = match &options.programs[..] {
        [] => vec![PathBuf::from(env!("CARGO_BIN_EXE_rollcall"))],
        given => given.to_vec(),
    };
    let programs: Vec<_> = match &programs[..] {
        [one] => vec![Contender::program("worker", one)],
        [first, second] => vec![Contender::program("worker A", first), Contender::program("worker B", second)],
        _ => bail!("--program is given at most twice"),
    };
    let names: Vec<_> = programs.iter().map(ToString::to_string).collect();
    let servers = tokio::task::spawn_blocking(support::private_servers).await?.context("no private servers")?;
    // Autovacuum would meet some runs and spare others.
    let asked = options.postgres.iter().map(|(name, value)| (&name[..], &value[..]));
    postgres::configure(servers, &iter::once(("autovacuum", "off")).chain(asked).collect::<Vec<_>>()).await?;
    let mut base = PgConnection::connect(servers.database_url()).await?;
    let mut report = heading(options, &programs, servers, &mut base).await?;
    base.close().await?;
    let mut loads = Loads::default();
    let mut grounds = Vec::new();
    for scenario in &chosen {
        grounds.push(Ground::prepare(scenario, options, &mut loads).await?);
        report.scenarios.push(Measured::of(scenario));
    }
    if let Some(file) = &options.sql {
        let statements = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        for (scenario, ground) in chosen.iter().zip(&mut grounds) {
            println!("{}", calls::compare(ground, scenario, options, &statements).await?);
        }
        return Ok(());
    }
    // By rounds and not by scenarios, since scenarios are compared too, and the machine is faster at times.
    for round in 1..=options.runs {
        for ((scenario, ground), measured) in chosen.iter().zip(&mut grounds).zip(&mut report.scenarios) {
            let done = measure_round(options, servers, scenario, ground, &programs, round).await?;
            measured.runs.extend(done.into_iter().map(|(contender, figures)| Done {
                round,
                contender: contender.to_string(),
                figures,
            }));
        }
    }
    report.conclude(&chosen, &names);
    if options.statements {
        statements::enable(servers).await?;
        for (index, (scenario, ground)) in chosen.iter().zip(&mut grounds).enumerate() {
            let (place, load) = ground.next(scenario, options).await?;
            let run = Run { servers, scenario, set: &options.set, place: &place, load: &load };
            if scenario.measure == Measure::Again {
                run.measure(&programs[0], false).await?;
            }
            report.scenarios[index].statements = statements::measure(&run, &programs[0]).await?;
        }
    }
    println!("{}", report::text(&report));
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)?).context("writing the JSON document")?;
    }
    if let Some(file) = &options.plot {
        fs::write(file, plot::svg(&report, &names)).context("writing the plot")?;
    }
    Ok(())
}

/// Every contender once, in even rounds the other way round.
async fn measure_round(
    options: &Options,
    servers: &Servers,
    scenario: &Scenario,
    ground: &mut Ground,
    programs: &[Contender],
    round: u32,
) -> anyhow::Result<Vec<(Contender, Figures)>> {
    let mut done = Vec::new();
    let has_limits = !options.no_limits && matches!(scenario.measure, Measure::Drain | Measure::Again);
    let mut contenders = programs.to_vec();
    if has_limits {
        contenders.insert(0, Contender::Ack);
        contenders.push(Contender::Sql);
        if scenario.measure == Measure::Drain {
            contenders.push(Contender::Both);
        }
    }
    if round.is_multiple_of(2) {
        contenders.reverse();
    }
    for contender in contenders {
        let figures = measure_one(options, servers, scenario, ground, &contender).await?;
        let rate = figures.get("events_per_s").map(|rate| format!(": {rate:.0} events/s")).unwrap_or_default();
        eprintln!("load: {}, round {round}, {contender}{rate}", scenario.name);
        done.push((contender, figures));
    }
    Ok(done)
}

async fn measure_one(
    options: &Options,
    servers: &Servers,
    scenario: &Scenario,
    ground: &mut Ground,
    contender: &Contender,
) -> anyhow::Result<Figures> {
    let (place, load) = ground.next(scenario, options).await?;
    let run = Run { servers, scenario, set: &options.set, place: &place, load: &load };
    match (scenario.measure, contender) {
        (Measure::Latency, Contender::Program { path, .. }) => steady::latency(&run, path, options.rate).await,
        (Measure::Takeover, Contender::Program { path, .. }) => steady::takeover(&run, path, options.rate).await,
        (Measure::Again, Contender::Program { .. } | Contender::Sql) => {
            let first = run.measure(contender, false).await?;
            // Autovacuum is off, and the second time would remove what the first one's updates left behind.
            let mut superuser = meter::superuser(&place).await?;
            sqlx::raw_sql("vacuum").execute(&mut superuser).await?;
            superuser.close().await?;
            let mut again = run.measure(contender, false).await?;
            for (name, figure) in [("again_to_fresh_rate", "events_per_s"), ("again_to_fresh_wal", "wal_bytes")] {
                if let Some((again_figure, first_figure)) = again.get(figure).zip(first.get(figure)) {
                    again.set(name, again_figure / first_figure);
                }
            }
            Ok(again)
        }
        (_, Contender::Program { .. }) if scenario.latency.is_zero() => {
            let mut figures = run.measure(contender, false).await?;
            // Once more and shorter, since the proxy that counts would slow the other one down.
            let (place, load) = ground.next(scenario, options).await?;
            let few = load.first(20_000);
            let counted = Run { place: &place, load: &few, ..run }.measure(contender, true).await?;
            figures.take(&counted, &["round_trips", "round_trips_per_transaction"]);
            Ok(figures)
        }
        _ => run.measure(contender, false).await,
    }
}

async fn heading(
    options: &Options,
    programs: &[Contender],
    servers: &'static Servers,
    base: &mut PgConnection,
) -> anyhow::Result<Report> {
    let ask = |arguments: &'static [&'static str]| async move {
        let asked = tokio::task::spawn_blocking(move || servers.rabbitmqctl(arguments)).await?;
        anyhow::Ok(asked?.trim().trim_matches('"').to_owned())
    };
    let mut rollcall = BTreeMap::new();
    for program in programs {
        let Contender::Program { name, path } = program else { continue };
        let asked =
            Command::new(path).arg("--version").output().with_context(|| format!("asking {}", path.display()))?;
        let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        rollcall.insert((*name).to_owned(), format!("{version}, {}", path.display()));
    }
    let now = UNIX_EPOCH + Duration::from_millis(clock::now_ms().unsigned_abs());
    Ok(Report {
        date: humantime::format_rfc3339_seconds(now).to_string(),
        rollcall,
        postgresql: sqlx::query_scalar("show server_version").fetch_one(base).await?,
        rabbitmq: ask(&["--quiet", "version"]).await?,
        erlang: ask(&["--quiet", "eval", "erlang:system_info(otp_release)."]).await?,
        cores: std::thread::available_parallelism()?.get(),
        settings: options.set.clone(),
        postgresql_settings: options.postgres.iter().cloned().collect(),
        events: options.events,
        rounds: options.runs,
        seed: options.seed,
        rate: options.rate,
        preload: options.preload,
        scenarios: Vec::new(),
    })
}
