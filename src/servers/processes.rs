//! Processes, told from all others by the folder that they were started from.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::child::plain_command;
use super::note;

/// The variable that names the folder in the environment of every child.
pub(super) const FOLDER_VARIABLE: &str = "ROLLCALL_SERVERS_FOLDER";

const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Sends a signal to pids, and to the process group of each that starts with a dash.
pub(super) async fn send(signal: &str, targets: &[String]) {
    // The shell's own kill: the program of that name is not installed everywhere.
    let mut command = plain_command("sh");
    command.args(["-c", r#"kill -s "$@""#, "sh", signal, "--"]).args(targets).stderr(Stdio::null());
    if let Err(error) = command.status().await {
        note(format_args!("sending SIG{signal} to {}: {error}", targets.join(" ")));
    }
}

/// Ends at once whatever was started from `folder` or a folder in it, and waits until it is gone.
pub(super) async fn kill_all(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let pids = started_from(folder)?;
        if pids.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "pids {} survive SIGKILL", pids.join(" "));
        send("KILL", &pids).await;
        sleep(Duration::from_millis(10)).await;
    }
}

/// The pids of processes that provably were started from there and have not ended.
fn started_from(folder: &Path) -> Result<Vec<String>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("listing the processes")? {
        let entry = entry?;
        let is_ours = holds_variable(&entry.path(), folder) || is_postgres_in(&entry.path(), folder);
        if let Some(pid) = entry.file_name().to_str().filter(|_| is_ours) {
            pids.push(pid.to_owned());
        }
    }
    Ok(pids)
}

fn holds_variable(process: &Path, folder: &Path) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| variable.strip_prefix(FOLDER_VARIABLE.as_bytes())?.strip_prefix(b"="))
        .any(|named| Path::new(OsStr::from_bytes(named)).starts_with(folder))
}

// PostgreSQL's processes overwrite their environment with their title. They work in the data folder, and outlive a
// killed postmaster for a moment.
fn is_postgres_in(process: &Path, folder: &Path) -> bool {
    fs::read(process.join("comm")).is_ok_and(|name| name == b"postgres\n")
        && fs::read_link(process.join("cwd")).is_ok_and(|working| working.starts_with(folder))
}
