//! A RabbitMQ node of our own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::child::{Running, bound_command};
use super::folder::{Folder, write_private};
use super::secret::Secret;

const USER: &str = "rollcall";

// When the owner dies nobody wants the node's data, and while it boots it is deaf to SIGTERM for a moment.
const DEATH_SIGNAL: &str = "KILL";

// Also for the second Erlang that RabbitMQ starts for a moment to make sure of epmd: with ours gone, that one would
// leave behind a daemon of its own.
const ERLANG_FLAGS: &str = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";

/// The ports of one node.
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
}

/// The programs that a node needs.
pub(super) struct Programs {
    server: PathBuf,
    epmd: PathBuf,
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

/// Finds the programs.
pub(super) fn find() -> Option<Programs> {
    // Not the one in /usr/sbin: that wrapper insists on the user rabbitmq and on its home.
    let server = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let epmd = ["/usr/bin/epmd", "/usr/lib/erlang/bin/epmd"].map(PathBuf::from);
    let epmd = epmd.into_iter().find(|program| program.is_file())?;
    server.is_file().then_some(Programs { server, epmd })
}

impl<'a> RabbitMq<'a> {
    pub(super) fn new(folder: &'a Folder, programs: Programs, ports: Ports) -> Self {
        Self { folder, programs, ports, password: Secret::random(), epmd: None, server: None, is_ready: false }
    }

    pub(super) fn url(&self) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password.expose(), self.ports.amqp)
    }

    /// Starts the node with its own port mapper and returns the Erlang machine's pid.
    pub(super) async fn start(&mut self) -> Result<u32> {
        let home = self.folder.private_dir("rabbitmq", None)?;
        self.write_settings(&home)?;
        self.start_epmd(&home).await?;
        self.start_server(&home).await
    }

    fn write_settings(&self, home: &Path) -> Result<()> {
        let settings = [
            &format!("listeners.tcp.local = 127.0.0.1:{}", self.ports.amqp),
            &format!("default_user = {USER}"),
            &format!("default_pass = {}", self.password.expose()),
            "vm_memory_high_watermark.relative = 0.4",
            "disk_free_limit.absolute = 50MB",
            "",
        ];
        write_private(&home.join("rabbitmq.conf"), &settings.join("\n"), None)?;
        write_private(&home.join("enabled_plugins"), "[rabbitmq_consistent_hash_exchange].\n", None)?;
        write_private(&home.join(".erlang.cookie"), Secret::random().expose(), None)?;
        // These two stand in for the system-wide ones.
        write_private(&home.join("rabbitmq-env.conf"), "", None)?;
        write_private(&home.join("advanced.config"), "[].\n", None)
    }

    fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = bound_command(program, self.folder.path(), DEATH_SIGNAL, None);
        command
            .env("HOME", home)
            .env("ERL_AFLAGS", ERLANG_FLAGS)
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
    }

    async fn start_epmd(&mut self, home: &Path) -> Result<()> {
        let log = self.folder.path().join("epmd.log");
        let epmd = self.epmd.insert(Running::spawn("epmd", self.command(&self.programs.epmd, home), &log)?);
        let port = self.ports.epmd;
        let accepts = async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok();
        epmd.ready(&log, &self.password, accepts).await
    }

    async fn start_server(&mut self, home: &Path) -> Result<u32> {
        let mut command = self.command(&self.programs.server, home);
        command
            .env("RABBITMQ_NODENAME", format!("rollcall-{}@localhost", self.ports.amqp))
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", home.join("conf.d"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", home.join("config"))
            .env("RABBITMQ_SCHEMA_DIR", home.join("schema"))
            .env("RABBITMQ_LOG_BASE", home)
            // To standard output, so that one file has the log and what Erlang says when it cannot even log.
            .env("RABBITMQ_LOGS", "-")
            // The script then becomes the Erlang machine; otherwise it stays in between, and signals end with it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        let log = self.folder.path().join("rabbitmq.log");
        let server = self.server.insert(Running::spawn("RabbitMQ", command, &log)?);
        let port = self.ports.amqp;
        let greets = async || timeout(Duration::from_secs(2), greets(port)).await.is_ok_and(|greeted| greeted.is_ok());
        server.ready(&log, &self.password, greets).await?;
        self.is_ready = true;
        Ok(server.pid())
    }

    /// Stops whatever of it runs, the port mapper last.
    pub(super) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            // A node that boots may not hear the signal, and has nothing to lose.
            let patience = Duration::from_secs(if self.is_ready { 15 } else { 2 });
            server.stop(&[("TERM", patience)]).await;
        }
        if let Some(epmd) = self.epmd.take() {
            epmd.stop(&[("TERM", Duration::from_secs(3))]).await;
        }
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
