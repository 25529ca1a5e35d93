//! A way to a server that a test can take away.

use std::net::Ipv4Addr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

/// A port that forwards to a server while it is open. Starts closed: nothing listens there.
pub struct Forwarder {
    url: String,
    target: String,
    port: u16,
    cuts: watch::Sender<u64>,
    listening: Option<AbortOnDropHandle<()>>,
}

impl Forwarder {
    /// A closed way to the server that a URL names.
    pub fn to(url: &str) -> Self {
        let start = url.rfind('@').map_or_else(|| url.find("://").unwrap() + 3, |at| at + 1);
        let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
        let target = &url[start..end];
        let default = if url.starts_with("amqp") { 5672 } else { 5432 };
        let port = free_port();
        Self {
            url: format!("{}127.0.0.1:{port}{}", &url[..start], &url[end..]),
            target: if target.contains(':') { target.to_owned() } else { format!("{target}:{default}") },
            port,
            cuts: watch::Sender::new(0),
            listening: None,
        }
    }

    /// The server's URL by way of this port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens the way.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let (target, cuts) = (self.target.clone(), self.cuts.subscribe());
        let forwarding: JoinHandle<()> = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(forward(client, target.clone(), cuts.clone()));
            }
        });
        self.listening = Some(AbortOnDropHandle::new(forwarding));
    }

    /// How many connections go this way now.
    pub fn connections(&self) -> usize {
        // One receiver is the listener's.
        self.cuts.receiver_count().saturating_sub(1)
    }

    /// Cuts every connection, and returns how many there were. New ones are let through.
    pub fn cut(&self) -> usize {
        let connections = self.connections();
        self.cuts.send_modify(|cuts| *cuts += 1);
        connections
    }

    /// Closes the way: what is connected is cut, and nothing listens.
    pub async fn close(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
        self.cut();
    }
}

async fn forward(mut client: TcpStream, target: String, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        // Changed, or the test is over.
        _ = cuts.changed() => {}
    }
}

/// A port on which nothing listens, below those that connections take by themselves and beside the servers' own.
pub fn free_port() -> u16 {
    let candidates = std::iter::repeat_with(|| fastrand::u16(10_000..20_000)).take(100);
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    candidates.into_iter().find(is_free).expect("a free port")
}
