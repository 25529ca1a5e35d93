//! What a killed postmaster leaves behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::data_dir;
use crate::servers::child::plain_command;
use crate::servers::note;

/// Removes what would hinder a new postmaster, or outlive the folder. Nothing of the server may run any more.
pub(super) async fn remove(folder: &Path) -> Result<()> {
    free_shared_memory(folder).await?;
    let lock = lock_file(folder);
    // Its pid may be somebody else's by now.
    if lock.exists() {
        fs::remove_file(&lock).with_context(|| format!("removing {}", lock.display()))?;
    }
    Ok(())
}

/// Frees the segment of System V memory by which one postmaster notices another.
pub(in crate::servers) async fn free_shared_memory(folder: &Path) -> Result<()> {
    let text = fs::read_to_string(lock_file(folder)).unwrap_or_default();
    let Some(id) = segment_id(&text) else { return Ok(()) };
    let output = plain_command("ipcrm").args(["--shmem-id", id]).output().await.context("running ipcrm")?;
    if !output.status.success() {
        note(String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn lock_file(folder: &Path) -> PathBuf {
    data_dir(folder).join("postmaster.pid")
}

/// The second number of the seventh line; the first is its key.
fn segment_id(lock: &str) -> Option<&str> {
    let id = lock.lines().nth(6)?.split_whitespace().nth(1)?;
    id.bytes().all(|byte| byte.is_ascii_digit()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::segment_id;

    #[test]
    fn segment_is_named_in_the_seventh_line() {
        assert_eq!(
            segment_id("4711\n/data\n1790000000\n21000\n\n127.0.0.1\n  1234567        42\nready   \n"),
            Some("42")
        );
        assert_eq!(segment_id("4711\n/data\n1790000000\n21000\n"), None);
    }
}
