//! The servers' packages, installed when they are missing.

use std::env;
use std::fs::{self, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tokio::time::sleep;
use uuid::Uuid;

use super::user::is_root;
use super::{note, postgres, rabbitmq};

const OUTPUT_LINES_SHOWN: usize = 30;

/// Installs the packages that are its arguments, without starting their services. Runs as root.
///
/// One script instead of steps from here, so that it finishes and takes its policy away even when the owner
/// dies. The lock keeps two owners from installing at once. The first attempt fails where package lists are
/// missing or out of date.
const SCRIPT: &str = r#"
exec 2>&1 9</var/lib/dpkg && flock 9 || exit
trap 'exit 130' INT TERM HUP
policy=/usr/sbin/policy-rc.d
if (set -C; printf '#!/bin/sh\nexit 101\n' >"$policy") 2>/dev/null; then
    trap 'rm -f "$policy"' EXIT
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
install() { apt-get -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"; }
install "$@" || { apt-get update && install "$@"; }
"#;

/// Both servers' programs.
pub(super) struct Programs {
    pub(super) postgres: PathBuf,
    pub(super) rabbitmq: rabbitmq::Programs,
}

/// Finds the programs, after installing what is missing.
pub(super) async fn ensure_programs() -> Result<Programs> {
    let named = rabbitmq::Programs::of_root().await?;
    let mut missing = Vec::new();
    if postgres::find().is_none() {
        missing.push(("PostgreSQL", "postgresql"));
    }
    if named.is_none() && rabbitmq::Programs::of_system().is_none() {
        missing.push(("RabbitMQ", "rabbitmq-server"));
    }
    if !missing.is_empty() {
        let (names, packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        install(&packages).await.with_context(|| {
            format!(
                "missing {}: install {}, or set DATABASE_URL and AMQP_URL, or run docker compose up",
                names.join(" and "),
                packages.join(" and ")
            )
        })?;
    }
    let postgres = postgres::find().context("no programs of PostgreSQL in /usr/lib/postgresql or on the PATH")?;
    let rabbitmq = named.or_else(rabbitmq::Programs::of_system);
    let rabbitmq = rabbitmq.context("no programs of RabbitMQ in /usr/lib/rabbitmq")?;
    Ok(Programs { postgres, rabbitmq })
}

async fn install(packages: &[&str]) -> Result<()> {
    let mut command = root_shell().await?;
    note(format_args!("installing {}; an interrupt waits for its end", packages.join(" and ")));
    let output = nameless_file()?;
    let mut shell = command
        .args(["-c", SCRIPT, "sh"])
        .args(packages)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        // Out of reach of Ctrl-C: half an installation is hard to repair.
        .process_group(0)
        .spawn()
        .context("starting a shell as root")?;
    let mut shown = 0;
    loop {
        let ended = shell.try_wait().context("waiting for apt-get")?;
        let text = text_of(&output)?;
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let complete = lines.iter().skip(shown).filter(|line| line.ends_with('\n'));
        shown += complete.clone().count();
        complete.filter_map(|line| progress(line.trim_end())).for_each(note);
        match ended {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let last = lines[lines.len().saturating_sub(OUTPUT_LINES_SHOWN)..].concat();
                bail!("apt-get failed ({status}):\n{}", last.trim_end())
            }
            None => sleep(Duration::from_millis(200)).await,
        }
    }
}

// A file and not a pipe: when the owner dies, a broken pipe would end apt-get and dpkg in the middle.
fn nameless_file() -> Result<File> {
    let path = env::temp_dir().join(format!("rollcall-{}", Uuid::new_v4().simple()));
    let open = || {
        let file = File::options().read(true).append(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(&path).map(|()| file)
    };
    open().with_context(|| format!("creating {}", path.display()))
}

fn text_of(file: &File) -> Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0).context("reading the output of apt-get")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A shell as root, through `sudo` unless this process is root itself.
async fn root_shell() -> Result<Command> {
    ensure!(is_on_path("apt-get"), "there is no apt-get to install them with");
    if is_root()? {
        return Ok(Command::new("sh"));
    }
    ensure!(is_on_path("sudo"), "there is neither root nor sudo to install them with");
    if io::stdin().is_terminal() {
        // Asks for the password here, where the terminal is ours to read.
        let status = Command::new("sudo").arg("-v").status().await.context("running sudo")?;
        ensure!(status.success(), "sudo refused");
    }
    let mut command = Command::new("sudo");
    command.args(["-n", "sh"]);
    Ok(command)
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// What of apt's output is worth a line.
fn progress(line: &str) -> Option<String> {
    if line.starts_with("Need to get ") || line.starts_with("Fetched ") {
        return Some(format!("apt-get: {line}"));
    }
    let package = line.strip_prefix("Setting up ")?.split(' ').next()?;
    Some(format!("apt-get: setting up {package}"))
}

#[cfg(test)]
mod tests {
    use super::progress;

    #[test]
    fn progress_of_apt_is_one_short_line_per_package() {
        assert_eq!(
            progress("Setting up libecpg6:amd64 (15.1-0) ..."),
            Some("apt-get: setting up libecpg6:amd64".into())
        );
        assert_eq!(progress("Selecting previously unselected package socat."), None);
    }
}
