//! What the command line says.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::scenarios::{self, Scenario};

/// Measures the worker against its limits on private servers: `cargo bench --bench load -- [options]`.
#[derive(Debug, Clone, Parser)]
#[command(name = "load")]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub struct Options {
    /// Only this scenario (may be repeated); without any, a quick set
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Instead of a scenario the events of DIR/events.ndjson, one a line, after DIR/setup.sql (may be repeated: all others are
    /// compared with the first)
    #[arg(long = "folder", value_name = "DIR", requires = "no_limits", conflicts_with_all = ["scenarios", "all", "sql"])]
    folders: Vec<PathBuf>,
    /// Every scenario
    #[arg(long)]
    all: bool,
    /// Lists the scenarios
    #[arg(long)]
    pub list: bool,
    /// Rounds of each scenario: the contenders take turns, the figures are medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Events that wait in the queues when a run begins
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub events: u64,
    /// Rows of `activity_events` before the scenario "preload"
    #[arg(long, default_value_t = 10_000_000)]
    pub preload: u64,
    /// Events a second where the rate is steady
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
    /// Another number is another load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A release build of rollcall; given twice, the second is compared with the first (default: this build's)
    #[arg(long = "program", value_name = "FILE")]
    pub programs: Vec<PathBuf>,
    /// A setting of rollcall in all scenarios (may be repeated), such as `broker.partitions=4`
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A setting of PostgreSQL (may be repeated), such as `shared_buffers=1GB`
    #[arg(long = "postgres", value_name = "NAME=VALUE", value_parser = setting)]
    pub postgres: Vec<(String, String)>,
    /// Without the two limits: only the programs
    #[arg(long)]
    pub no_limits: bool,
    /// Once more with `pg_stat_statements`: what each statement costs
    #[arg(long)]
    pub statements: bool,
    /// Compares what stands in the database before and after the statements of FILE, call by call, instead of programs
    #[arg(long, value_name = "FILE")]
    pub sql: Option<PathBuf>,
    /// Writes everything to FILE as one JSON document
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws events a second against the bound into FILE, as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    pub bench: bool,
    #[command(subcommand)]
    pub limit: Option<Limit>,
}

/// What this program does in a process of its own, so that its CPU time is counted separately.
#[derive(Debug, Clone, Subcommand)]
pub enum Limit {
    /// Acks so many deliveries and does nothing else
    #[command(hide = true)]
    Ack {
        events: u64,
        #[arg(long = "set")]
        set: Vec<String>,
    },
    /// Applies the bodies of a file, one a line, decoded beforehand
    #[command(hide = true)]
    Sql {
        bodies: PathBuf,
        #[arg(long = "set")]
        set: Vec<String>,
    },
}

impl Options {
    /// The scenarios that were asked for, or what is wrong with one.
    pub fn chosen(&self) -> Result<Vec<Scenario>, String> {
        if !self.folders.is_empty() {
            return self.of_folders();
        }
        let known = |name: &String| scenarios::ALL.iter().any(|scenario| scenario.name == name);
        if let Some(unknown) = self.scenarios.iter().find(|name| !known(name)) {
            return Err(format!("there is no scenario {unknown}: see --list"));
        }
        let wants = |scenario: &&Scenario| {
            self.all
                || self.scenarios.iter().any(|name| name == scenario.name)
                || self.scenarios.is_empty() && scenario.is_quick
        };
        Ok(scenarios::ALL.iter().filter(wants).copied().collect())
    }

    fn of_folders(&self) -> Result<Vec<Scenario>, String> {
        let mut chosen: Vec<Scenario> = Vec::new();
        for folder in &self.folders {
            // as long as the program, as the names of the other scenarios
            let folder: &'static Path = Box::leak(folder.clone().into_boxed_path());
            let compared_with: Vec<_> = chosen.first().iter().map(|first| first.name).collect();
            let scenario = Scenario::of_folder(folder, compared_with.leak())
                .filter(|scenario| chosen.iter().all(|other| other.name != scenario.name))
                .ok_or_else(|| format!("{}: a folder needs a name of its own", folder.display()))?;
            chosen.push(scenario);
        }
        Ok(chosen)
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
    if is_name { Ok((name.to_owned(), value.to_owned())) } else { Err(format!("{name} is no setting's name")) }
}
