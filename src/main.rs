//! The `rollcall` program.

use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use clap::Parser as _;
use rollcall::{commands::Cli, log};
use tikv_jemallocator::Jemalloc;

/// What the standard library and the allocator read once, at the start.
const ENVIRONMENT: [(&str, &str); 2] = [
    // The stack of every thread, in bytes. AMQP headers nest as deep as 128 KiB of them can, and the client
    // reads them recursively: with less, one message ends every replica before rollcall sees it.
    ("RUST_MIN_STACK", "67108864"),
    // Events are allocated on one thread and end on another: with an arena for each, a sixth more memory.
    ("_RJEM_MALLOC_CONF", "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0"),
];

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let missing: Vec<_> = ENVIRONMENT.into_iter().filter(|(name, _)| env::var_os(name).is_none()).collect();
    if !missing.is_empty()
        && let Ok(program) = env::current_exe()
    {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        // Going on without is better than not starting.
        let error = Command::new(program).args(env::args_os().skip(1)).envs(missing).exec();
        eprintln!("warning: starting over with {} set: {error}", names.join(" and "));
    }
    log::hook_panics();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
    }
}
