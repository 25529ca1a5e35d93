//! The `rollcall` program.

use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use clap::Parser as _;
use rollcall::{commands::Cli, log};

/// The stack of every thread, in bytes. AMQP headers nest as deep as 128 KiB of them can, and the client
/// reads them recursively: with less, one message ends every replica before rollcall sees it.
const STACK: &str = "67108864";

fn main() -> ExitCode {
    const VARIABLE: &str = "RUST_MIN_STACK";
    if env::var_os(VARIABLE).is_none()
        && let Ok(program) = env::current_exe()
    {
        // The standard library reads it once, so the program has to start over. Going on without is
        // better than not starting.
        let error = Command::new(program).args(env::args_os().skip(1)).env(VARIABLE, STACK).exec();
        eprintln!("warning: starting over with {VARIABLE} set: {error}");
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
