//! The folder that holds everything of one pair of servers.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::sleep;

use super::user::User;
use super::{leftovers, note};

/// The file that an owner keeps locked as long as it lives.
///
/// A lock instead of a look at the pid in the folder's name: pids are reused, and mean nothing to the owner in another
/// container that shares the folder.
pub(super) const LOCK_FILE: &str = "owner.lock";

/// A fresh folder, locked by this process.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates `<dir>/<pid>`, or a folder for temporary files when `user` cannot get there, and clears up beside it.
    pub(super) async fn create(dir: &Path, user: Option<&User>) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let folder = Self::create_in(dir, user).await?;
        let Some(user) = user.filter(|user| !user.reaches(&folder.path)) else { return Ok(folder) };
        folder.remove().await?;

        let temporary = env::temp_dir().join("rollcall-servers");
        note(format_args!("the user postgres cannot get to {}; using {}", dir.display(), temporary.display()));
        create_own_dir(&temporary)?;
        let folder = Self::create_in(&temporary, Some(user)).await?;
        if !user.reaches(&folder.path) {
            folder.remove().await?;
            bail!("the user postgres cannot get to {} either; name a folder with --dir", temporary.display());
        }
        Ok(folder)
    }

    async fn create_in(dir: &Path, user: Option<&User>) -> Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("looking for {}", dir.display()))?;
        leftovers::remove(&dir).await?;
        let path = dir.join(process::id().to_string());
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        // PostgreSQL's user passes through to its own folder, and lists nothing.
        fs::set_permissions(&path, Permissions::from_mode(if user.is_some() { 0o711 } else { 0o700 }))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = File::create_new(&lock_path).with_context(|| format!("creating {}", lock_path.display()))?;
        lock.lock().with_context(|| format!("locking {}", lock_path.display()))?;
        // Another owner that cleared up in the moment before the lock has taken the folder for a leftover.
        ensure!(lock_path.exists(), "{} was removed while it was created; try again", path.display());
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a folder in this one that only its owner can read: `user`, or who runs this.
    pub(super) fn private_dir(&self, name: &str, user: Option<&User>) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("creating {}", path.display()))?;
        give(&path, user)?;
        Ok(path)
    }

    /// Removes the folder and all that is in it.
    pub(super) async fn remove(self) -> Result<()> {
        remove(&self.path).await
    }
}

/// Removes a folder, although a child that was killed may just be writing or removing its last file.
pub(super) async fn remove(path: &Path) -> Result<()> {
    let mut attempts = 0;
    while let Err(error) = remove_lock_last(path) {
        if !path.exists() {
            break;
        }
        attempts += 1;
        let is_race = matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound);
        if !is_race || attempts > 50 {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

// Without its lock file a half-removed folder would never be taken for a leftover.
fn remove_lock_last(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK_FILE {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(path)
}

/// Writes a file that only its owner can read: `user`, or who runs this.
pub(super) fn write_private(path: &Path, text: &str, user: Option<&User>) -> Result<()> {
    let write = || File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes());
    write().with_context(|| format!("writing {}", path.display()))?;
    give(path, user)
}

fn give(path: &Path, user: Option<&User>) -> Result<()> {
    let Some(User { uid, gid }) = user else { return Ok(()) };
    chown(path, Some(*uid), Some(*gid)).with_context(|| format!("giving {} to the user postgres", path.display()))
}

// Everybody can write beside this folder, so it must be one that root made.
fn create_own_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", path.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    ensure!(found.is_dir() && found.uid() == 0, "{} is not a folder of root's", path.display());
    fs::set_permissions(path, Permissions::from_mode(0o711))?;
    Ok(())
}
