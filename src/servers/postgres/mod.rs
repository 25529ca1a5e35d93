//! A PostgreSQL server of our own.

mod remains;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

pub(super) use self::remains::free_shared_memory;
use super::child::{Running, bound_command, last_lines, plain_command};
use super::folder::{Folder, write_private};
use super::messages::PostgresStop;
use super::secret::Secret;
use super::user::User;
use super::{note, processes};

const NAME: &str = "rollcall";

// Fast shutdown, also when the owner dies: after SIGTERM PostgreSQL would wait for its clients to leave.
const FAST_SHUTDOWN: &str = "INT";
const IMMEDIATE_SHUTDOWN: &str = "QUIT";

// A shutdown writes what a checkpoint has to write, on a busy disk.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);

/// PostgreSQL before, during and after its start.
pub(super) struct Postgres<'a> {
    folder: &'a Folder,
    user: Option<&'a User>,
    bin: PathBuf,
    port: u16,
    password: Secret,
    running: Option<Running>,
}

/// The folder with PostgreSQL's programs, the newest version's.
pub(super) fn find() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let on_path = env::var_os("PATH").unwrap_or_default();
    let candidates = versions.into_iter().rev().map(|(_, bin)| bin).chain(env::split_paths(&on_path));
    let needed = ["initdb", "postgres", "pg_isready", "createdb"];
    candidates.into_iter().find(|bin| needed.iter().all(|program| bin.join(program).is_file()))
}

/// Where the servers' folder keeps everything of PostgreSQL's.
fn private_dir(folder: &Path) -> PathBuf {
    folder.join("postgres")
}

fn data_dir(folder: &Path) -> PathBuf {
    private_dir(folder).join("data")
}

impl<'a> Postgres<'a> {
    pub(super) fn new(folder: &'a Folder, user: Option<&'a User>, bin: PathBuf, port: u16) -> Self {
        Self { folder, user, bin, port, password: Secret::random(), running: None }
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{NAME}", self.password.expose(), self.port)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// Creates a cluster, starts it, creates the database, and returns the postmaster's pid.
    pub(super) async fn create(&mut self) -> Result<u32> {
        self.create_cluster().await?;
        let pid = self.start().await?;
        self.create_database().await?;
        Ok(pid)
    }

    /// Starts the cluster unless it takes connections, and returns the postmaster's pid.
    pub(super) async fn start(&mut self) -> Result<u32> {
        // One that is just dying takes none.
        if let Ok(pid) = self.ready().await {
            return Ok(pid);
        }
        self.kill().await?;
        self.spawn_server()?;
        let started = self.ready().await;
        if started.is_err() {
            self.kill().await?;
        }
        started
    }

    fn command(&self, program: &str) -> Command {
        bound_command(&self.bin.join(program), &private_dir(self.folder.path()), FAST_SHUTDOWN, self.user)
    }

    async fn create_cluster(&mut self) -> Result<()> {
        let private = self.folder.private_dir("postgres", self.user)?;
        let password_file = private.join("password");
        write_private(&password_file, self.password.expose(), self.user)?;
        let mut initdb = self.command("initdb");
        initdb
            .arg("-D")
            .arg(data_dir(self.folder.path()))
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", NAME, "--auth", "scram-sha-256", "--encoding", "UTF8"])
            // The locale decides what lower() knows: with plain C it would be ASCII only.
            .args(["--locale", if has_utf8_locale().await { "C.UTF-8" } else { "C" }])
            // A crash in the middle of this leaves nothing that anybody wants; the server itself does sync.
            .arg("--no-sync");
        let initdb = self.running.insert(Running::spawn("initdb", initdb, &self.log())?);
        let status = initdb.wait().await?;
        ensure!(status.success(), "initdb failed ({status}):\n{}", last_lines(&self.log(), &self.password));
        fs::remove_file(&password_file).context("removing PostgreSQL's password file")
    }

    fn spawn_server(&mut self) -> Result<()> {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(data_dir(self.folder.path()));
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.port),
            "unix_socket_directories=",
            // In files of the data folder: what is in /dev/shm would outlive a killed server.
            "dynamic_shared_memory_type=mmap",
            "max_connections=200",
            "fsync=on",
            "log_line_prefix=%m [%p] %e %d ",
        ] {
            postgres.args(["-c", setting]);
        }
        self.running = Some(Running::spawn("PostgreSQL", postgres, &self.log())?);
        Ok(())
    }

    async fn ready(&mut self) -> Result<u32> {
        let log = self.log();
        let running = self.running.as_mut().context("PostgreSQL does not run")?;
        let port = self.port.to_string();
        let accepts = async || {
            let mut command = plain_command(self.bin.join("pg_isready"));
            command.args(["--quiet", "--host", "127.0.0.1", "--port", &port]);
            command.status().await.is_ok_and(|status| status.success())
        };
        running.ready(&log, &self.password, accepts).await?;
        Ok(running.pid())
    }

    async fn create_database(&self) -> Result<()> {
        let output = plain_command(self.bin.join("createdb"))
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string(), "--username", NAME, "--no-password", NAME])
            .env("PGPASSWORD", self.password.expose())
            .output()
            .await
            .context("running createdb")?;
        let reason = self.password.redact(String::from_utf8_lossy(&output.stderr).trim());
        ensure!(output.status.success(), "createdb failed ({}): {reason}", output.status);
        Ok(())
    }

    /// Stops it in this manner, unless it has ended already.
    pub(super) async fn stop(&mut self, manner: PostgresStop) -> Result<()> {
        let signal = match manner {
            PostgresStop::Fast => Some(FAST_SHUTDOWN),
            PostgresStop::Immediate => Some(IMMEDIATE_SHUTDOWN),
            PostgresStop::Kill => None,
        };
        if let (Some(running), Some(signal)) = (&mut self.running, signal) {
            running.end(signal, STOPPED_WITHIN).await?;
        }
        self.kill().await
    }

    /// Stops whatever of it runs, more and more roughly.
    pub(super) async fn end(&mut self) -> Result<()> {
        for (signal, patience) in [(FAST_SHUTDOWN, 10), (IMMEDIATE_SHUTDOWN, 5)] {
            if let Some(running) = &mut self.running
                && let Err(error) = running.end(signal, Duration::from_secs(patience)).await
            {
                note(error);
            }
        }
        self.kill().await
    }

    /// Ends what still runs of it, and removes what would be in a new server's way.
    async fn kill(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running {
            running.kill().await;
        }
        // The postmaster's children are not in its process group.
        processes::kill_all(&private_dir(self.folder.path())).await?;
        remains::remove(self.folder.path()).await?;
        self.running = None;
        Ok(())
    }
}

async fn has_utf8_locale() -> bool {
    let Ok(output) = plain_command("locale").arg("-a").output().await else { return false };
    let names = String::from_utf8_lossy(&output.stdout).to_lowercase();
    names.lines().any(|name| matches!(name, "c.utf8" | "c.utf-8"))
}
