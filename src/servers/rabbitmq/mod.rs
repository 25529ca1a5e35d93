//! A RabbitMQ node of our own.

mod environment;
mod programs;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

pub(super) use self::programs::Programs;
use super::child::Running;
use super::folder::Folder;
use super::messages::RabbitMqStop;
use super::secret::Secret;
use super::{note, processes};

const USER: &str = "rollcall";

const STOPPED_WITHIN: Duration = Duration::from_mins(1);
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);

/// The ports of one node.
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
}

/// RabbitMQ before, during and after its start.
pub(super) struct RabbitMq<'a> {
    folder: &'a Folder,
    programs: Programs,
    ports: Ports,
    password: Secret,
    epmd: Option<Running>,
    server: Option<Running>,
    is_ready: bool,
}

impl<'a> RabbitMq<'a> {
    pub(super) fn new(folder: &'a Folder, programs: Programs, ports: Ports) -> Self {
        Self { folder, programs, ports, password: Secret::random(), epmd: None, server: None, is_ready: false }
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password.expose(), self.ports.amqp)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("rabbitmq.log")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("rabbitmq")
    }

    /// Creates a node, starts it and returns the Erlang machine's pid.
    pub(super) async fn create(&mut self) -> Result<u32> {
        let home = self.folder.private_dir("rabbitmq", None)?;
        environment::write_files(&home, &self.ports, &self.password)?;
        self.start().await
    }

    /// Starts the node with its own port mapper unless it takes connections, and returns the Erlang machine's pid.
    pub(super) async fn start(&mut self) -> Result<u32> {
        // One that is just dying takes none.
        if let Ok(pid) = self.ready().await {
            return Ok(pid);
        }
        self.kill().await?;
        let started = self.start_both().await;
        if started.is_err() {
            self.kill().await?;
        }
        started
    }

    async fn start_both(&mut self) -> Result<u32> {
        self.start_epmd().await?;
        let command = self.with_variables(self.programs.server(&self.home()));
        self.server = Some(Running::spawn("RabbitMQ", command, &self.log())?);
        self.ready().await
    }

    async fn start_epmd(&mut self) -> Result<()> {
        let log = self.folder.path().join("epmd.log");
        let command = self.with_variables(self.programs.epmd(&self.home()));
        let epmd = self.epmd.insert(Running::spawn("epmd", command, &log)?);
        let port = self.ports.epmd;
        let accepts = async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok();
        epmd.ready(&log, &self.password, accepts).await
    }

    async fn ready(&mut self) -> Result<u32> {
        let log = self.log();
        let server = self.server.as_mut().context("RabbitMQ does not run")?;
        let port = self.ports.amqp;
        let greets = async || timeout(Duration::from_secs(2), greets(port)).await.is_ok_and(|greeted| greeted.is_ok());
        server.ready(&log, &self.password, greets).await?;
        self.is_ready = true;
        Ok(server.pid())
    }

    fn with_variables(&self, mut command: Command) -> Command {
        command.envs(environment::variables(&self.programs.inside(&self.home()), &self.ports));
        command
    }

    /// Stops it in this manner, unless it has ended already.
    pub(super) async fn stop(&mut self, manner: RabbitMqStop) -> Result<()> {
        if let (Some(server), RabbitMqStop::Graceful) = (&mut self.server, manner) {
            server.end("TERM", STOPPED_WITHIN).await?;
        }
        self.kill().await
    }

    /// Stops whatever of it runs, gently if it can be.
    pub(super) async fn end(&mut self) -> Result<()> {
        // A node that boots may not hear the signal, and has nothing to lose.
        let patience = Duration::from_secs(if self.is_ready { 15 } else { 2 });
        if let Some(server) = &mut self.server
            && let Err(error) = server.end("TERM", patience).await
        {
            note(error);
        }
        self.kill().await
    }

    /// Ends what still runs of it, the port mapper last.
    async fn kill(&mut self) -> Result<()> {
        for running in [&mut self.server, &mut self.epmd].into_iter().flatten() {
            running.kill().await;
        }
        // The Erlang machine's children have process groups of their own.
        processes::kill_all(&self.home()).await?;
        (self.server, self.epmd, self.is_ready) = (None, None, false);
        Ok(())
    }

    /// Runs `rabbitmqctl` for this node and returns what it prints.
    pub(super) async fn ctl(&mut self, arguments: &[String]) -> Result<String> {
        ensure!(self.server.as_mut().is_some_and(|server| !server.has_ended()), "RabbitMQ does not run");
        // The other arguments may hold a password.
        let name = format!("rabbitmqctl {}", arguments.first().map_or("", String::as_str));
        let mut command = self.with_variables(self.programs.ctl(&self.home()));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("starting {name} through setpriv"))?;
        let group = child.id().map(|pid| format!("-{pid}"));
        let mut output = pin!(child.wait_with_output());
        let Ok(output) = timeout(ANSWERED_WITHIN, &mut output).await else {
            processes::send("KILL", group.as_slice()).await;
            bail!("{name} did not end within {} s", ANSWERED_WITHIN.as_secs());
        };
        let output = output.with_context(|| format!("waiting for {name}"))?;
        let text = |bytes| self.password.redact(String::from_utf8_lossy(bytes).trim_end());
        ensure!(output.status.success(), "{name} failed ({}): {}", output.status, text(&output.stderr));
        Ok(text(&output.stdout))
    }
}

/// Opens an AMQP 0-9-1 connection up to the server's `Connection.Start`.
async fn greets(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    let mut frame = [0; 11];
    stream.read_exact(&mut frame).await?;
    // A method frame (1) of channel 0, four bytes of length, class 10, method 10.
    match frame {
        [1, 0, 0, _, _, _, _, 0, 10, 0, 10] => Ok(()),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}
