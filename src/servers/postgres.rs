//! A PostgreSQL server of our own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::child::{Running, bound_command, last_lines, plain_command};
use super::folder::{Folder, write_private};
use super::secret::Secret;
use super::user::User;

const NAME: &str = "rollcall";

// Fast shutdown, also when the owner dies: after SIGTERM PostgreSQL would wait for its clients to leave.
const FAST_SHUTDOWN: &str = "INT";

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

/// Where a folder keeps PostgreSQL's data.
pub(super) fn data_dir(folder: &Path) -> PathBuf {
    folder.join("postgres").join("data")
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
    pub(super) async fn start(&mut self) -> Result<u32> {
        self.create_cluster().await?;
        let pid = self.start_server().await?;
        self.create_database().await?;
        Ok(pid)
    }

    async fn create_cluster(&mut self) -> Result<()> {
        let private = self.folder.private_dir("postgres", self.user)?;
        let password_file = private.join("password");
        write_private(&password_file, self.password.expose(), self.user)?;
        let mut initdb = bound_command(&self.bin.join("initdb"), self.folder.path(), FAST_SHUTDOWN, self.user);
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
        let initdb = self.running.insert(Running::spawn("initdb", initdb, &self.folder.path().join("postgres.log"))?);
        let status = initdb.wait().await?;
        ensure!(status.success(), "initdb failed ({status}):\n{}", last_lines(&self.log(), &self.password));
        fs::remove_file(&password_file).context("removing PostgreSQL's password file")
    }

    async fn start_server(&mut self) -> Result<u32> {
        let mut postgres = bound_command(&self.bin.join("postgres"), self.folder.path(), FAST_SHUTDOWN, self.user);
        postgres.arg("-D").arg(data_dir(self.folder.path()));
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", self.port),
            "unix_socket_directories=",
            "max_connections=200",
            "fsync=on",
            "log_line_prefix=%m [%p] %e %d ",
        ] {
            postgres.args(["-c", setting]);
        }
        let log = self.log();
        let server = self.running.insert(Running::spawn("PostgreSQL", postgres, &log)?);
        let port = self.port.to_string();
        let accepts = async || {
            let mut command = plain_command(self.bin.join("pg_isready"));
            command.args(["--quiet", "--host", "127.0.0.1", "--port", &port]);
            command.status().await.is_ok_and(|status| status.success())
        };
        server.ready(&log, &self.password, accepts).await?;
        Ok(server.pid())
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

    /// Stops whatever of it runs.
    pub(super) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(&[(FAST_SHUTDOWN, Duration::from_secs(10)), ("QUIT", Duration::from_secs(5))]).await;
        }
    }
}

async fn has_utf8_locale() -> bool {
    let Ok(output) = plain_command("locale").arg("-a").output().await else { return false };
    let names = String::from_utf8_lossy(&output.stdout).to_lowercase();
    names.lines().any(|name| matches!(name, "c.utf8" | "c.utf-8"))
}
