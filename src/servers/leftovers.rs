//! What owners left behind that could not clean up after themselves.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

use super::child::{FOLDER_VARIABLE, send};
use super::folder::{self, LOCK_FILE};
use super::note;

/// Removes the folders in `dir` whose owner is gone, and first ends what still runs from them.
pub(super) async fn remove(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let folder = entry?.path();
        // No lock file, or one that we may not open: not ours to remove.
        let Ok(lock) = File::open(folder.join(LOCK_FILE)) else { continue };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => {
                note(format_args!("leaving {} alone: {error}", folder.display()));
                continue;
            }
        }
        note(format_args!("removing {}, whose owner is gone", folder.display()));
        for pid in started_from(&folder)? {
            send("KILL", &pid).await;
        }
        if let Err(error) = folder::remove(&folder).await {
            note(format_args!("{error:#}"));
        }
    }
    Ok(())
}

/// The pids of processes that provably were started from `folder`.
fn started_from(folder: &Path) -> Result<Vec<String>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("listing the processes")? {
        let entry = entry?;
        let is_ours = holds_variable(&entry.path(), folder) || is_postgres_of(&entry.path(), folder);
        if let Some(pid) = entry.file_name().to_str().filter(|_| is_ours) {
            pids.push(pid.to_owned());
        }
    }
    Ok(pids)
}

fn holds_variable(process: &Path, folder: &Path) -> bool {
    let wanted = format!("{FOLDER_VARIABLE}={}", folder.display());
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

// PostgreSQL's processes overwrite their environment with their title; the postmaster keeps its arguments.
fn is_postgres_of(process: &Path, folder: &Path) -> bool {
    let data = super::postgres::data_dir(folder).display().to_string();
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    matches!(&arguments[..], [program, b"-D", dir, ..] if program.ends_with(b"/postgres") && *dir == data.as_bytes())
}
