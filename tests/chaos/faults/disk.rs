//! A disk that is really full: a table on a small file system of its own.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::Path,
    process::Command,
    time::Instant,
};

use tempfile::TempDir;

use super::{Fault, Reach, database::change};
use crate::{postgres_log::PostgresLog, scene::Scene};

/// Transactions that meet it.
const FAILING: usize = 3;

pub(super) fn fault() -> Fault {
    Fault {
        reach: Reach::Servers,
        in_halves: true,
        has_what_it_needs: || SmallDisk::new("").map(drop).map_err(|_| "needs the right to mount a small file system"),
        ..super::fault("database: a disk is full", super::Act::FullDisk)
    }
}

/// 8 MB, gone when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(options: &str) -> Result<Self, String> {
        let disk = Self(TempDir::new().map_err(|error| error.to_string())?);
        let options = format!("size=8m,mode=0755{options}");
        let mount = ["-t", "tmpfs", "-o", &options, "rollcall-chaos"];
        let mounted = Command::new("mount").args(mount).arg(disk.0.path()).output();
        let mounted = mounted.map_err(|error| error.to_string())?;
        if mounted.status.success() { Ok(disk) } else { Err(String::from_utf8_lossy(&mounted.stderr).into_owned()) }
    }

    /// Fills it to the last page.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn clear(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Where it was not mounted there is nothing to do.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

pub(super) async fn happen(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    let servers = scene.servers.expect("servers of the harness's own");
    let (uid, gid) = owner(servers.postgres_pid());
    let disk = SmallDisk::new(&format!(",uid={uid},gid={gid}"))?;
    let space = format!("small_{}", scene.place.name);
    change(scene, &format!("create tablespace {space} location '{}'", disk.0.path().display())).await;
    change(scene, &format!("alter table activity_events set tablespace {space}")).await;
    let outcome = fill(scene, &disk).await;
    change(scene, "alter table activity_events set tablespace pg_default").await;
    change(scene, &format!("drop tablespace {space}")).await;
    outcome
}

async fn fill(scene: &mut Scene, disk: &SmallDisk) -> Result<(), String> {
    let log = PostgresLog::from_now().expect("servers of the harness's own");
    scene.progress().await?;
    disk.fill();
    scene.publish_rest();
    let is_met = async || log.errors(&scene.place.name, &["53100"]).len() >= FAILING;
    let met = scene.until("transactions meet the full disk", is_met).await;
    disk.clear();
    met?;
    scene.recovered(Instant::now()).await
}

/// As whom a process runs.
pub(super) fn owner(pid: u32) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = std::fs::metadata(Path::new("/proc").join(pid.to_string())).unwrap();
    (metadata.uid(), metadata.gid())
}
