//! RabbitMQ's programs: this system's, or those of another Debian in a root folder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::servers::child::bound_command;
use crate::servers::note;
use crate::servers::user::is_root;

// When the owner dies nobody wants the node's data, and while it boots it is deaf to SIGTERM for a moment.
const DEATH_SIGNAL: &str = "KILL";

/// The variable that names the root folder.
const ROOT_VARIABLE: &str = "ROLLCALL_RABBITMQ_ROOT";

// Not those in /usr/sbin: these wrappers insist on the user rabbitmq and on its home.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// The programs that a node needs, and how to run them.
pub(in crate::servers) struct Programs {
    root: Option<Root>,
    epmd: &'static str,
}

/// A root folder, as `tests/debian13.sh` makes one.
struct Root {
    path: PathBuf,
    has_proc: bool,
}

impl Programs {
    /// Finds those of this system.
    pub(in crate::servers) fn of_system() -> Option<Self> {
        find_epmd(Path::new("/")).map(|epmd| Self { root: None, epmd })
    }

    /// Finds those in the root folder that the environment names, if it names one.
    pub(in crate::servers) async fn of_root() -> Result<Option<Self>> {
        let Some(path) = env::var_os(ROOT_VARIABLE).filter(|path| !path.is_empty()) else { return Ok(None) };
        let path = PathBuf::from(path);
        let path = path.canonicalize().with_context(|| format!("looking for {ROOT_VARIABLE} {}", path.display()))?;
        ensure!(is_root()?, "only root can run RabbitMQ in {ROOT_VARIABLE}");
        let epmd = find_epmd(&path)
            .with_context(|| format!("no RabbitMQ in {}; tests/debian13.sh installs one", path.display()))?;
        Ok(Some(Self { root: Some(Root::with_what_is_permitted(path).await), epmd }))
    }

    /// Where the node's files must be, unless anywhere will do.
    pub(in crate::servers) fn dir(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.path.join("rollcall"))
    }

    /// A path as the programs see it.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        let below = self.root.as_ref().and_then(|root| path.strip_prefix(&root.path).ok());
        below.map_or_else(|| path.to_owned(), |below| Path::new("/").join(below))
    }

    pub(super) fn server(&self, folder: &Path) -> Command {
        self.command(folder, SERVER)
    }

    pub(super) fn ctl(&self, folder: &Path) -> Command {
        self.command(folder, CTL)
    }

    pub(super) fn epmd(&self, folder: &Path) -> Command {
        self.command(folder, self.epmd)
    }

    fn command(&self, folder: &Path, program: &str) -> Command {
        match &self.root {
            Some(root) => root.command(folder, program),
            None => bound_command(Path::new(program), folder, DEATH_SIGNAL, None),
        }
    }
}

/// The port mapper below a root folder, if there is everything else too.
fn find_epmd(root: &Path) -> Option<&'static str> {
    let has = |program: &&str| root.join(program.trim_start_matches('/')).is_file();
    let epmd = ["/usr/bin/epmd", "/usr/lib/erlang/bin/epmd"].into_iter().find(has)?;
    [SERVER, CTL].iter().all(has).then_some(epmd)
}

impl Root {
    async fn with_what_is_permitted(path: PathBuf) -> Self {
        let root = Self { path, has_proc: true };
        let mut probe = root.command(Path::new("/"), "/bin/true");
        if probe.stderr(Stdio::null()).status().await.is_ok_and(|status| status.success()) {
            return root;
        }
        note("not permitted to mount /proc, without which this RabbitMQ watches neither memory nor disk");
        Self { has_proc: false, ..root }
    }

    /// Changes the root to this folder, like `chroot`, with a /proc that is mounted for the program alone: a mount of
    /// its own namespace ends with it.
    fn command(&self, folder: &Path, program: &str) -> Command {
        let mut command = bound_command(Path::new("unshare"), folder, DEATH_SIGNAL, None);
        command.args(self.has_proc.then_some("--mount-proc")).arg("--root").arg(&self.path).arg(program);
        command
    }
}
