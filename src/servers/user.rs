//! The account under which PostgreSQL runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The account that stands in for root, as which PostgreSQL refuses to run.
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// Finds the account, or nothing when this process is not root and runs PostgreSQL as itself.
    pub(super) fn for_postgres() -> Result<Option<Self>> {
        if !is_root()? {
            return Ok(None);
        }
        let user = id("-u").and_then(|uid| Ok(Self { uid, gid: id("-g")? }));
        user.map(Some).context("PostgreSQL does not run as root and there is no user postgres to run it")
    }

    /// The options with which `setpriv` becomes this user.
    pub(super) fn setpriv_options(&self) -> [String; 3] {
        [format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]
    }

    /// Whether the user can enter `folder`, asked by doing it: modes of ancestors, access lists and mounts all count.
    pub(super) fn reaches(&self, folder: &Path) -> bool {
        Command::new("setpriv")
            .args(self.setpriv_options())
            .args(["--", "test", "-x"])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("finding out who runs this")?.uid() == 0)
}

fn id(option: &str) -> Result<u32> {
    let output = Command::new("id").args([option, "postgres"]).output().context("running id")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).trim().parse().context("reading the output of id")
}
