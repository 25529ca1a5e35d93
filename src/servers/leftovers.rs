//! What owners left behind that could not clean up after themselves.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

use super::folder::{self, LOCK_FILE};
use super::{note, postgres, processes};

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
        if let Err(error) = remove_one(&folder).await {
            note(format_args!("{error:#}"));
        }
    }
    Ok(())
}

async fn remove_one(folder: &Path) -> Result<()> {
    processes::kill_all(folder).await?;
    postgres::free_shared_memory(folder).await?;
    folder::remove(folder).await
}
