//! Children that die with this process, and are stopped in bounded time.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::note;
use super::processes::{FOLDER_VARIABLE, send};
use super::secret::Secret;
use super::user::User;

const READY_WITHIN: Duration = Duration::from_secs(90);
const LOG_LINES_SHOWN: usize = 20;

/// Prepares a command that sees nothing of this process's environment.
pub(super) fn plain_command(program: impl AsRef<Path>) -> Command {
    // The distribution's programs come first: its RabbitMQ needs its own Erlang.
    let inherited = env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program.as_ref());
    command
        .env_clear()
        .env("PATH", format!("/usr/sbin:/usr/bin:/sbin:/bin:{inherited}"))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Prepares a command that gets `death_signal` from the kernel when the thread that spawns it ends.
///
/// That thread must last as long as this process: spawn from the main task only.
pub(super) fn bound_command(program: &Path, folder: &Path, death_signal: &str, user: Option<&User>) -> Command {
    let mut command = plain_command("setpriv");
    command
        .args(["--pdeathsig", death_signal])
        .args(user.map(User::setpriv_options).iter().flatten())
        .arg("--")
        .arg(program)
        .current_dir(folder)
        .env(FOLDER_VARIABLE, folder)
        // Ctrl-C in a terminal then reaches the owner alone, which stops its children in order.
        .process_group(0);
    command
}

/// A child from its start on.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    pid: u32,
}

impl Running {
    /// Starts the command with its output appended to `log`.
    pub(super) fn spawn(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("opening {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {name} through setpriv"))?;
        let pid = child.id().with_context(|| format!("{name} has no pid"))?;
        Ok(Self { name, child, pid })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("waiting for {}", self.name))
    }

    /// Asks `probe` until it says yes.
    pub(super) async fn ready(
        &mut self,
        log: &Path,
        secret: &Secret,
        mut probe: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !probe().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while starting ({status}); its log ends with\n{}", self.name, last_lines(log, secret));
            }
            if Instant::now() > deadline {
                let waited = READY_WITHIN.as_secs();
                bail!("{} was not ready in {waited} s; its log ends with\n{}", self.name, last_lines(log, secret));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Sends a signal and gives it its time, unless the child has ended already.
    pub(super) async fn end(&mut self, signal: &str, patience: Duration) -> Result<()> {
        // Not reaped yet, so the pid is still this child's.
        if self.has_ended() {
            return Ok(());
        }
        send(signal, &[self.pid.to_string()]).await;
        if timeout(patience, self.child.wait()).await.is_err() {
            bail!("{} still runs {} s after SIG{signal}", self.name, patience.as_secs());
        }
        Ok(())
    }

    /// Ends the child and its process group at once.
    pub(super) async fn kill(&mut self) {
        if self.has_ended() {
            return;
        }
        send("KILL", &[format!("-{}", self.pid)]).await;
        if timeout(Duration::from_secs(5), self.child.wait()).await.is_err() {
            note(format_args!("{} (pid {}) survived SIGKILL", self.name, self.pid));
        }
    }
}

/// The end of a log, without the password.
pub(super) fn last_lines(log: &Path, secret: &Secret) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "(nothing)".to_owned();
    }
    secret.redact(&lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n"))
}
