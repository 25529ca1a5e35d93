//! The program as a user runs it.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use super::{DEADLINE, Place, eventually};

/// A command of the program in a place.
pub fn rollcall(place: &Place, environment: &[(&str, &str)]) -> Command {
    // For trying a release build with the tests as they are.
    let program = env::var_os("ROLLCALL_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_rollcall").into());
    command(program, place, environment)
}

/// A program that takes the settings of a place.
pub fn command(program: impl AsRef<OsStr>, place: &Place, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env("DATABASE_URL", place.settings.database.url.expose())
        .env("AMQP_URL", place.settings.broker.url.expose())
        .env("ROLLCALL_BROKER__PREFIX", &place.name)
        .env("ROLLCALL_HTTP__LISTEN", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A running `rollcall run`, killed when dropped.
pub struct Replica {
    child: Child,
    log: NamedTempFile,
}

impl Replica {
    pub fn start(place: &Place, environment: &[(&str, &str)]) -> Self {
        let mut command = rollcall(place, environment);
        command.arg("run");
        Self::start_command(command)
    }

    /// As [`Self::start`], by another command that ends up as the program.
    pub fn start_command(mut command: Command) -> Self {
        let log = NamedTempFile::new().unwrap();
        let stderr = File::options().append(true).open(log.path()).unwrap();
        let child = command.stderr(stderr).kill_on_drop(true).spawn().unwrap();
        Self { child, log }
    }

    /// As [`Self::start_command`]; what it logs goes through a pipe, whose reader can be stopped.
    pub fn start_piped(mut command: Command) -> (Self, LogReader) {
        let log = NamedTempFile::new().unwrap();
        let (mut pipe, stderr) = std::io::pipe().unwrap();
        let mut copy = File::options().append(true).open(log.path()).unwrap();
        let child = command.stderr(stderr).kill_on_drop(true).spawn().unwrap();
        // Holds the other end of the pipe.
        drop(command);
        let reader = LogReader::default();
        let is_stopped = Arc::clone(&reader.0);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut bytes) {
                copy.write_all(&bytes[..length]).unwrap();
                let (is_stopped, changed) = &*is_stopped;
                drop(changed.wait_while(is_stopped.lock().unwrap(), |is_stopped| *is_stopped).unwrap());
            }
        });
        (Self { child, log }, reader)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("the replica runs")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Its resident memory at its peak, in bytes; `None` where it is gone.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = Path::new("/proc").join(self.child.id()?.to_string()).join("status");
        let status = std::fs::read_to_string(status).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok()? * 1024)
    }

    /// Its metrics, summed over all labels; `None` where it does not answer.
    pub async fn metrics(&self) -> Option<BTreeMap<String, f64>> {
        let mut metrics = BTreeMap::new();
        for (name, value) in self.samples().await? {
            *metrics.entry(name.split('{').next()?.to_owned()).or_default() += value;
        }
        Some(metrics)
    }

    /// Its metrics with their labels.
    pub async fn labelled_metrics(&self) -> BTreeMap<String, f64> {
        self.samples().await.expect("an answer").into_iter().collect()
    }

    async fn samples(&self) -> Option<Vec<(String, f64)>> {
        let address = self.told_address()?;
        let answer = tokio::time::timeout(Duration::from_secs(2), get(&address, "/metrics")).await.ok()?.ok()?;
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        answer.1.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
    }

    /// A metric, summed over all labels; 0 while the replica does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.and_then(|metrics| metrics.get(name).copied()).unwrap_or(0.0)
    }

    /// Its resident memory, in bytes, now and at its peak.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.pid().to_string()).join("status")).unwrap();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() * 1024
        };
        (bytes("VmRSS:"), bytes("VmHWM:"))
    }

    /// Sends SIGTERM.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Sends a signal.
    pub async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    /// Where it answers HTTP, once it said so.
    pub async fn http_address(&self) -> String {
        eventually("the replica tells its HTTP address", async || self.told_address().is_some()).await;
        self.told_address().unwrap()
    }

    fn told_address(&self) -> Option<String> {
        let log = self.log();
        let (_, told) = log.split_once("http.address=")?;
        told.split_whitespace().next().map(str::to_owned)
    }

    /// What its HTTP port answers: the status and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(&self.http_address().await, path).await.unwrap()
    }

    /// Waits until it says that it works.
    pub async fn ready(&self) {
        eventually("the replica is ready", async || self.get("/readyz").await.0 == 200).await;
    }

    /// A number that it told when it stopped.
    pub fn counted(&self, what: &str) -> u64 {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(" stopped ")).unwrap_or_else(|| panic!("no summary: {log}"));
        let (_, told) = line.split_once(&format!(" {what}=")).unwrap_or_else(|| panic!("no {what}: {line}"));
        told.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("the replica ends").unwrap()
    }

    /// Whether it ends by itself within this time.
    pub async fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(time, self.child.wait()).await.ok().map(Result::unwrap)
    }

    /// Ends it as an operator would, and checks that it ends well.
    pub async fn stop(mut self) {
        self.terminate().await;
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Ends it with SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Who reads the log of [`Replica::start_piped`]; reads on when it is dropped.
#[derive(Default)]
pub struct LogReader(Arc<(Mutex<bool>, Condvar)>);

impl LogReader {
    pub fn stop(&self) {
        *self.0.0.lock().unwrap() = true;
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

async fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}
