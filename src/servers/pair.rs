//! The user's end: a pair of servers that is asked for, told what to do, and stopped.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::DeserializeOwned;

use super::messages::{Answer, PostgresStop, RabbitMqStop, Ready, Request};

/// A pair of servers, stopped for good by [`Servers::stop`] or by dropping it.
///
/// Whatever starts, stops or asks blocks until it is done, one call at a time; from async code go through
/// `tokio::task::spawn_blocking`.
pub struct Servers {
    owner: Child,
    pipes: Mutex<Pipes>,
    ready: Ready,
    postgres_pid: AtomicU32,
    rabbitmq_pid: AtomicU32,
}

/// The way to the owner and back.
struct Pipes {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
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
        let (requests, answers) = owner.stdin.take().zip(owner.stdout.take()).context("the owner has no pipes")?;
        let mut pipes = Pipes { requests, answers: BufReader::new(answers) };
        let Some(ready) = pipes.read::<Ready>().context("waiting for the servers")? else {
            let status = owner.wait().context("waiting for the owner of the servers")?;
            bail!("the servers did not start ({status}); the reason is on standard error");
        };
        let (postgres_pid, rabbitmq_pid) = (ready.postgres_pid.into(), ready.rabbitmq_pid.into());
        Ok(Self { owner, pipes: Mutex::new(pipes), ready, postgres_pid, rabbitmq_pid })
    }

    /// Stops both servers, waits until they are gone and their folder is removed.
    ///
    /// # Errors
    ///
    /// Fails when the owner reports that it could not stop or clean up everything.
    pub fn stop(self) -> Result<()> {
        let Self { mut owner, pipes, .. } = self;
        drop(pipes);
        let status = owner.wait().context("waiting for the servers to stop")?;
        ensure!(status.success(), "the servers did not stop cleanly ({status}); the reason is on standard error");
        Ok(())
    }

    /// Stops PostgreSQL and waits until nothing of it runs; does nothing when it does not run.
    ///
    /// # Errors
    ///
    /// Fails when it still runs a minute later; it can be killed then.
    pub fn stop_postgres(&self, manner: PostgresStop) -> Result<()> {
        self.ask(&Request::StopPostgres(manner)).map(drop).context("stopping PostgreSQL")
    }

    /// Starts PostgreSQL on the same port with the same data, and waits until it takes connections; does nothing
    /// when it runs.
    ///
    /// # Errors
    ///
    /// Fails, with the end of its log, when it does not start; nothing of it runs then.
    pub fn start_postgres(&self) -> Result<()> {
        self.ask_for_pid(&Request::StartPostgres, &self.postgres_pid).context("starting PostgreSQL")
    }

    /// Stops RabbitMQ and its port mapper and waits until nothing of it runs; does nothing when it does not run.
    ///
    /// # Errors
    ///
    /// Fails when it still runs a minute later; it can be killed then.
    pub fn stop_rabbitmq(&self, manner: RabbitMqStop) -> Result<()> {
        self.ask(&Request::StopRabbitmq(manner)).map(drop).context("stopping RabbitMQ")
    }

    /// Starts RabbitMQ on the same port with the same data, and waits until it takes connections; does nothing when
    /// it runs. Its quorum queues may elect their leaders a moment later.
    ///
    /// # Errors
    ///
    /// Fails, with the end of its log, when it does not start; nothing of it runs then.
    pub fn start_rabbitmq(&self) -> Result<()> {
        self.ask_for_pid(&Request::StartRabbitmq, &self.rabbitmq_pid).context("starting RabbitMQ")
    }

    /// Runs `rabbitmqctl` with these arguments on the node, and returns what it prints, without the last line break.
    ///
    /// `--quiet` as the first argument leaves out what is only for people.
    ///
    /// # Errors
    ///
    /// Fails when it fails, with what it says on standard error, or takes more than a minute.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        match self.ask(&Request::Rabbitmqctl(arguments))? {
            Answer::Printed(text) => Ok(text),
            _ => bail!("the owner of the servers did not answer with what rabbitmqctl prints"),
        }
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

    /// The folder that holds the servers' files until they are stopped.
    ///
    /// Where `ROLLCALL_RABBITMQ_ROOT` names a root folder, RabbitMQ's are in a folder below that one instead.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.ready.dir
    }

    /// PostgreSQL's log; each line starts with time, pid and SQLSTATE.
    #[must_use]
    pub fn postgres_log(&self) -> &Path {
        &self.ready.postgres_log
    }

    /// RabbitMQ's log.
    #[must_use]
    pub fn rabbitmq_log(&self) -> &Path {
        &self.ready.rabbitmq_log
    }

    /// The pid of PostgreSQL's postmaster, the last one's while it is stopped.
    #[must_use]
    pub fn postgres_pid(&self) -> u32 {
        self.postgres_pid.load(Ordering::Relaxed)
    }

    /// The pid of RabbitMQ's Erlang machine, the last one's while it is stopped.
    #[must_use]
    pub fn rabbitmq_pid(&self) -> u32 {
        self.rabbitmq_pid.load(Ordering::Relaxed)
    }

    fn ask_for_pid(&self, request: &Request, known: &AtomicU32) -> Result<()> {
        let Answer::Started(pid) = self.ask(request)? else {
            bail!("the owner of the servers did not answer with a pid");
        };
        known.store(pid, Ordering::Relaxed);
        Ok(())
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        // A panic leaves nothing half done: each line is written and read as a whole.
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(request).context("writing a request as JSON")?;
        let written = writeln!(pipes.requests, "{line}").and_then(|()| pipes.requests.flush());
        written.context("the owner of the servers takes no requests any more")?;
        match pipes.read()?.context("the owner of the servers ended without an answer")? {
            Answer::Failed(reason) => bail!(reason),
            answer => Ok(answer),
        }
    }
}

impl Pipes {
    /// Waits for one line; none when the owner has ended.
    fn read<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("reading from the owner of the servers")? == 0 {
            return Ok(None);
        }
        // The parser's own text could quote the line, and with it the passwords.
        let message = serde_json::from_str(&line).map_err(|error| {
            anyhow!("the owner of the servers printed something else ({:?} error)", error.classify())
        })?;
        Ok(Some(message))
    }
}

impl fmt::Debug for Servers {
    /// Shows everything but the addresses, which hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("owner_pid", &self.owner.id())
            .field("dir", &self.ready.dir)
            .field("postgres_pid", &self.postgres_pid())
            .field("rabbitmq_pid", &self.rabbitmq_pid())
            .finish_non_exhaustive()
    }
}
