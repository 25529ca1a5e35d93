use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{
    Trap,
    direction::Direction,
    reader,
    road::{Crowd, Road},
};

/// How long a closed connection is still read: closing one with unread bytes would reset it, and take from the
/// other side what it has not read yet.
const LINGER: Duration = Duration::from_secs(5);

/// A connection through the proxy.
pub struct Line {
    pub road: Arc<Road>,
    is_swallowed: AtomicBool,
}

/// How a connection ends before both sides are done.
pub enum End {
    Cut(Option<Trap>),
    Reset(Option<Trap>),
    /// One side takes nothing more.
    Unheard,
}

impl From<io::Error> for End {
    // A side that is gone is gone for the other side too, in the same way.
    fn from(_: io::Error) -> Self {
        Self::Reset(None)
    }
}

impl Line {
    pub fn swallow(&self) {
        self.is_swallowed.store(true, Ordering::Relaxed);
    }

    pub fn is_swallowed(&self) -> bool {
        self.is_swallowed.load(Ordering::Relaxed)
    }

    async fn carry(&self, client: &mut TcpStream, server: &mut TcpStream) -> Result<(), End> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let [of_client, of_server] = reader::pair(self.road.protocol);
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = Direction::new(self, from_client, to_server, of_client);
        let down = Direction::new(self, from_server, to_client, of_server);
        tokio::try_join!(up.carry(), down.carry()).map(drop)
    }
}

/// Carries a connection until it ends.
pub async fn run(mut client: TcpStream, road: Arc<Road>, crowd: Arc<Crowd>) {
    let connecting = async {
        road.passable().await;
        TcpStream::connect(road.target()).await.ok()
    };
    let connected = tokio::select! {
        server = connecting => server,
        () = crowd.cut.cancelled() => None,
    };
    let Some(mut server) = connected else { return };
    let line = Line { road, is_swallowed: AtomicBool::new(false) };
    let end = tokio::select! {
        end = line.carry(&mut client, &mut server) => end,
        () = crowd.cut.cancelled() => Err(End::Cut(None)),
    };
    drop(crowd);
    match end {
        Ok(()) | Err(End::Unheard) => {}
        Err(End::Cut(trap)) => close([client, server], trap).await,
        Err(End::Reset(trap)) => reset([client, server], trap),
    }
}

async fn close(mut sides: [TcpStream; 2], trap: Option<Trap>) {
    for side in &mut sides {
        let _ = side.shutdown().await;
    }
    spring(trap);
    let [client, server] = &mut sides;
    let (mut nowhere, mut neither) = (tokio::io::sink(), tokio::io::sink());
    let draining = async { tokio::join!(tokio::io::copy(client, &mut nowhere), tokio::io::copy(server, &mut neither)) };
    let _ = timeout(LINGER, draining).await;
}

fn reset(sides: [TcpStream; 2], trap: Option<Trap>) {
    for side in sides {
        let _ = side.set_zero_linger();
    }
    spring(trap);
}

fn spring(trap: Option<Trap>) {
    if let Some(trap) = trap {
        trap.spring();
    }
}
