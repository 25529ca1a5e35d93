//! What the command line says.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Parser;

/// Runs faults against the worker and prints the scoreboard.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub struct Options {
    /// The long set: 20 seeds of 10,000 events (the short one: 1 of 2,000)
    #[arg(long)]
    pub long: bool,
    /// Seeds of each fault
    #[arg(long)]
    pub seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub first_seed: u64,
    /// Events of a run
    #[arg(long)]
    pub events: Option<u64>,
    /// Only faults whose name contains this (may be repeated)
    #[arg(long = "fault")]
    pub faults: Vec<String>,
    /// Without faults whose name contains this (may be repeated)
    #[arg(long = "without")]
    pub without: Vec<String>,
    /// Turns seeded bugs on, one after the other, and sees that each is found (needs a debug build)
    #[arg(long)]
    pub bugs: bool,
    /// Runs at once, but for faults that stop servers or change the role; recoveries take longer then
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    pub jobs: NonZeroUsize,
    /// Lists the faults
    #[arg(long)]
    pub list: bool,
    /// Adds the runs to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Runs nothing, prints the scoreboard of saved runs
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Given by cargo test to all test programs: runs nothing unless it is a part of "chaos"
    pub filter: Option<String>,
    /// Given by cargo test to all test programs
    #[arg(long, hide = true)]
    pub nocapture: bool,
    /// Given by cargo test to all test programs
    #[arg(long, hide = true)]
    pub test_threads: Option<usize>,
    /// Given by cargo test to all test programs
    #[arg(long, short, hide = true)]
    pub quiet: bool,
}

impl Options {
    pub fn seeds(&self) -> std::ops::Range<u64> {
        let count = self.seeds.unwrap_or(if self.long { 20 } else { 1 });
        self.first_seed..self.first_seed + count
    }

    pub fn events(&self) -> u64 {
        self.events.unwrap_or(if self.long { 10_000 } else { 2_000 })
    }

    pub fn wants(&self, fault: &str) -> bool {
        (self.faults.is_empty() || self.faults.iter().any(|part| fault.contains(part)))
            && !self.without.iter().any(|part| fault.contains(part))
    }
}
