//! Chaos: faults happen to the worker between real servers, and the rows must be those of the events that
//! were confirmed. `cargo test --release --test chaos -- --help`.
//!
//! A release build runs faults against the unmodified program and prints the scoreboard. A debug build does so
//! when faults are named, and turns on seeded bugs, to see that each is found.

mod board;
// A release build has no bugs to turn on.
#[cfg(debug_assertions)]
mod bugs;
mod detector;
mod faults;
mod load;
mod options;
mod postgres_log;
mod run;
mod scene;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses the rest")]
mod support;
mod verdict;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::ExitCode,
};

use clap::Parser as _;
use futures_util::{StreamExt as _, stream};
use rollcall::servers::Servers;

use board::board;
use faults::{Fault, Reach};
use load::Load;
use options::Options;
use run::{Run, run};
use support::Place;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.filter.as_ref().is_some_and(|filter| !"chaos".contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    if options.list {
        for fault in faults::all() {
            println!("{}", fault.name);
        }
        return ExitCode::SUCCESS;
    }
    if !options.report.is_empty() {
        let runs: Vec<_> = options.report.iter().flat_map(|file| saved(file)).collect();
        println!("{}", board("", &runs));
        return verdict(&runs);
    }
    let servers = support::private_servers();
    #[cfg(debug_assertions)]
    let chooses_faults = options.long || !options.faults.is_empty();
    #[cfg(debug_assertions)]
    if !options.bugs && !chooses_faults {
        eprintln!("NOT RUN: cargo test --test chaos -- --bugs, and the scoreboard: cargo test --release --test chaos");
        return ExitCode::SUCCESS;
    }
    #[cfg(debug_assertions)]
    if options.bugs {
        eprintln!("seeded bugs against the debug build; the scoreboard is cargo test --release --test chaos");
        return if bugs::hunt(|bug| options.wants(bug), options.jobs.get(), servers).await {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let faults: Vec<_> = faults::all().into_iter().filter(|fault| options.wants(fault.name)).collect();
    let runs = run_all(&options, &faults, servers).await;
    println!("{}", board(&heading(&options, servers).await, &runs));
    verdict(&runs)
}

fn verdict(runs: &[Run]) -> ExitCode {
    for run in runs.iter().filter(|run| !run.is_green()) {
        eprintln!("RED: {}, seed {}, {}/{}: {:?}", run.fault, run.seed, run.reached, run.wanted, run.verdict);
    }
    if !runs.is_empty() && runs.iter().all(Run::is_green) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_all(options: &Options, faults: &[Fault], servers: Option<&'static Servers>) -> Vec<Run> {
    let mut loads = Vec::new();
    for seed in options.seeds() {
        let load = Load::generate(seed, options.events()).shared();
        let template = Place::template().await;
        load.set_up(&template).await;
        loads.push((load, template));
    }
    let total = faults.len() * loads.len();
    let (exclusive, shared): (Vec<_>, Vec<_>) =
        faults.iter().filter(|fault| can_run(fault, servers)).partition(|fault| fault.reach > Reach::Run);
    let mut runs = Vec::new();
    for (faults, jobs) in [(shared, options.jobs.get()), (exclusive, 1)] {
        let all = faults.into_iter().flat_map(|fault| loads.iter().map(move |load| (fault, load)));
        let mut done = stream::iter(all)
            .map(|(fault, (load, template))| run(fault, load, template, servers, &[], scene::PATIENCE))
            .buffer_unordered(jobs);
        while let Some(run) = done.next().await {
            runs.push(run);
            tell(&runs, total);
            if let (Some(file), Some(run)) = (&options.save, runs.last()) {
                save(file, run);
            }
        }
    }
    runs
}

fn can_run(fault: &Fault, servers: Option<&'static Servers>) -> bool {
    let missing = if fault.reach == Reach::Servers && servers.is_none() {
        Err("needs servers that may be stopped, not those of DATABASE_URL and AMQP_URL")
    } else {
        (fault.has_what_it_needs)()
    };
    if let Err(missing) = missing {
        eprintln!("NOT RUN: {}: {missing}", fault.name);
    }
    missing.is_ok()
}

/// Says how the last run went.
fn tell(runs: &[Run], total: usize) {
    let Some(run) = runs.last() else { return };
    let state = if run.is_green() {
        "ok"
    } else if run.is_void() {
        "VOID"
    } else {
        "RED"
    };
    eprintln!(
        "[{}/{total}] {state} {}, seed {}: {}/{} in {:.1} s",
        runs.len(),
        run.fault,
        run.seed,
        run.reached,
        run.wanted,
        run.seconds
    );
    for trouble in &run.verdict.troubles {
        eprintln!("    {trouble}");
    }
}

fn save(file: &Path, run: &Run) {
    let mut file = File::options().create(true).append(true).open(file).unwrap();
    let mut line = serde_json::to_string(run).unwrap();
    line.push('\n');
    file.write_all(line.as_bytes()).unwrap();
}

fn saved(file: &Path) -> Vec<Run> {
    let lines = BufReader::new(File::open(file).unwrap()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// What ran where.
async fn heading(options: &Options, servers: Option<&'static Servers>) -> String {
    let postgres: String = match support::base_connection().await {
        Some(mut connection) => sqlx::query_scalar("show server_version").fetch_one(&mut connection).await.unwrap(),
        None => "?".into(),
    };
    let rabbitmq = match servers {
        Some(servers) => {
            let version = tokio::task::spawn_blocking(|| servers.rabbitmqctl(&["version"])).await.unwrap();
            version.map_or_else(|_| "?".into(), |version| version.trim().to_owned())
        }
        None => "?".into(),
    };
    format!(
        "rollcall {} ({}), PostgreSQL {postgres}, RabbitMQ {rabbitmq}, {} seeds from {}, {} events a run",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "DEBUG build" } else { "release build" },
        options.seeds().count(),
        options.first_seed,
        options.events()
    )
}
