//! What the worker's own machine does to it: clients of its HTTP port, a log that nobody reads, too few files.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::{Fault, database::terminate_backends, fault};
use crate::{scene::Scene, support::Replica};

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// A storm of scrapes, then thousands of clients that are silent in the middle of a request.
    HttpAbuse,
    /// Nobody reads the log, on which everything is told.
    UnreadLog,
    /// Sixty-four file descriptors, most of them taken by HTTP clients while the database's connections break.
    FewFiles,
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| Fault { in_halves: true, ..fault(name, super::Act::Machine(act)) };
    vec![
        named("worker: HTTP abuse", Act::HttpAbuse),
        named("worker: nobody reads the log", Act::UnreadLog),
        Fault {
            has_what_it_needs: || match std::process::Command::new("prlimit").arg("--version").output() {
                Ok(told) if told.status.success() => Ok(()),
                _ => Err("needs prlimit (util-linux)"),
            },
            ..named("worker: too few file descriptors", Act::FewFiles)
        },
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::HttpAbuse => abuse(scene).await,
            Self::UnreadLog => unread(scene).await,
            Self::FewFiles => few_files(scene).await,
        }
    }
}

/// Sends some of a request and reads until the end, again and again; counts what was read to the end.
fn clients(count: usize, address: &str, request: &'static str, ends: &Arc<AtomicU64>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let (address, ends) = (address.to_owned(), Arc::clone(ends));
        clients.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                let mut answer = Vec::new();
                if stream.write_all(request.as_bytes()).await.is_ok() {
                    let _ = stream.read_to_end(&mut answer).await;
                }
                ends.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    clients
}

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n";
const SILENCE: &str = "GET /metrics HTTP/1.1\r\nHo";

async fn abuse(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 2;
    let address = scene.replicas[0].http_address().await;
    let scrapes = Arc::new(AtomicU64::new(0));
    let storm = clients(32, &address, SCRAPE, &scrapes);
    scene.publish_rest();
    scene.until("a storm of scrapes", async || scrapes.load(Ordering::Relaxed) >= 1000).await?;
    scene.recovered(Instant::now()).await?;
    drop(storm);

    let cut = Arc::new(AtomicU64::new(0));
    let silent = clients(2000, &address, SILENCE, &cut);
    // As many as may be connected at a time have been cut, and others have taken their place.
    scene.until("silent clients are cut", async || cut.load(Ordering::Relaxed) >= 64).await?;
    scene.recovered(Instant::now()).await?;
    scene.publish_kept_back();
    scene.until("the load is done", async || scene.is_drained().await).await?;
    drop(silent);
    Ok(())
}

async fn unread(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    scene.weigh();
    scene.replicas.swap_remove(0).kill().await;
    let mut command = scene.command();
    command.env("RUST_LOG", "trace");
    let (replica, reader) = Replica::start_piped(command);
    replica.ready().await;
    reader.stop();
    scene.replicas.push(replica);
    scene.publish_rest();
    let are_dropped = async || scene.replicas[0].metric("rollcall_log_lines_dropped").await > 0.0;
    scene.until("lines of the log are dropped", are_dropped).await?;
    scene.recovered(Instant::now()).await?;
    scene.publish_kept_back();
    // All of it, before anybody reads on.
    scene.emptied().await
}

async fn few_files(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    scene.progress().await?;
    let replica = &scene.replicas[0];
    let limit = ["--nofile=64:64".to_owned(), format!("--pid={}", replica.pid())];
    let limited = tokio::process::Command::new("prlimit").args(limit).status().await;
    assert!(limited.is_ok_and(|status| status.success()), "prlimit");
    let silent = clients(64, &replica.http_address().await, SILENCE, &Arc::default());
    scene.publish_rest();
    let is_met = async || {
        // Until a connection breaks while there is no descriptor for another one.
        terminate_backends(scene).await.is_ok() && scene.is_told("Too many open files")
    };
    scene.until("a connection cannot be opened for want of files", is_met).await?;
    drop(silent);
    scene.recovered(Instant::now()).await
}
