//! Private PostgreSQL and RabbitMQ nodes for the demo, the tests and development.
//!
//! Two processes share the work. The *owner* (`rollcall servers`, [`own`]) starts both servers in a fresh folder and
//! stops them when its standard input ends. The *user* holds a [`Servers`]: the other end of that pipe, which the
//! kernel closes however the user dies.

mod child;
mod folder;
mod install;
mod leftovers;
mod owner;
mod ports;
mod postgres;
mod rabbitmq;
mod secret;
mod stop;
mod user;

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

pub use self::owner::own;

/// A running pair of servers, stopped by [`Servers::stop`] or by dropping it.
///
/// Both calls block; from async code go through `tokio::task::spawn_blocking`.
pub struct Servers {
    owner: Child,
    ready: Ready,
}

/// What the owner prints as one JSON line when both servers take connections.
#[derive(Serialize, Deserialize)]
struct Ready {
    database_url: String,
    amqp_url: String,
    dir: PathBuf,
    postgres_log: PathBuf,
    postgres_pid: u32,
    rabbitmq_pid: u32,
}

impl Servers {
    /// Starts `<rollcall_exe> servers --dir <dir>` and waits until both servers take connections.
    ///
    /// The owner's progress and, if it fails, its reason appear on this process's standard error.
    ///
    /// # Errors
    ///
    /// Fails when the owner cannot be started or ends before the servers are ready.
    pub fn start(rollcall_exe: &Path, dir: &Path) -> Result<Self> {
        let mut owner = Command::new(rollcall_exe)
            .arg("servers")
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the user of the servers, which may still need them to finish its work.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", rollcall_exe.display()))?;
        let stdout = owner.stdout.take().context("the owner of the servers has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("waiting for the servers")?;
        if line.is_empty() {
            let status = owner.wait().context("waiting for the owner of the servers")?;
            bail!("the servers did not start ({status}); the reason is on standard error");
        }
        // The parser's own text could quote the line, and with it the passwords.
        let ready = serde_json::from_str(&line).map_err(|error| {
            anyhow!("{} printed something else than its servers ({:?} error)", rollcall_exe.display(), error.classify())
        })?;
        Ok(Self { owner, ready })
    }

    /// Stops both servers, waits until they are gone and their folder is removed.
    ///
    /// # Errors
    ///
    /// Fails when the owner reports that it could not stop or clean up everything.
    pub fn stop(mut self) -> Result<()> {
        drop(self.owner.stdin.take());
        let status = self.owner.wait().context("waiting for the servers to stop")?;
        ensure!(status.success(), "the servers did not stop cleanly ({status}); the reason is on standard error");
        Ok(())
    }

    /// The `postgres://` address of an empty database, with its superuser's password.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.ready.database_url
    }

    /// The `amqp://` address of the default virtual host, with its administrator's password.
    #[must_use]
    pub fn amqp_url(&self) -> &str {
        &self.ready.amqp_url
    }

    /// The folder that holds both servers' files, `rabbitmq.log` among them, until they are stopped.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.ready.dir
    }

    /// PostgreSQL's log; each line starts with time, pid and SQLSTATE.
    #[must_use]
    pub fn postgres_log(&self) -> &Path {
        &self.ready.postgres_log
    }

    /// The pid of PostgreSQL's postmaster.
    #[must_use]
    pub fn postgres_pid(&self) -> u32 {
        self.ready.postgres_pid
    }

    /// The pid of RabbitMQ's Erlang machine.
    #[must_use]
    pub fn rabbitmq_pid(&self) -> u32 {
        self.ready.rabbitmq_pid
    }
}

impl fmt::Debug for Servers {
    /// Shows everything but the addresses, which hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("owner_pid", &self.owner.id())
            .field("dir", &self.ready.dir)
            .field("postgres_pid", &self.ready.postgres_pid)
            .field("rabbitmq_pid", &self.ready.rabbitmq_pid)
            .finish_non_exhaustive()
    }
}

/// Tells the person at the terminal what is going on.
///
/// Unlike `eprintln!` it survives that nobody reads any more: the servers must be stopped even then.
fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "servers: {text}");
}
