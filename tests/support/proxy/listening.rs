use std::{
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{line, road::Road};

/// Below the ports that connections take by themselves, and beside the servers' own.
pub async fn bind_anywhere() -> TcpListener {
    for _ in 0..100 {
        if let Ok(listener) = bind(fastrand::u16(10_000..20_000)).await {
            return listener;
        }
    }
    panic!("no free port")
}

pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Somebody who lets connections in.
pub struct Listening {
    end: CancellationToken,
    accepting: AbortOnDropHandle<TcpListener>,
}

impl Listening {
    pub fn on(listener: TcpListener, road: &Arc<Road>) -> Self {
        let end = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, Arc::clone(road), end.clone()));
        Self { end, accepting: AbortOnDropHandle::new(accepting) }
    }

    pub async fn end(self) {
        self.end.cancel();
        let listener = self.accepting.await.unwrap();
        // Closing would not do: a program that another thread is about to start has the socket until it runs.
        let socket = OwnedFd::from(listener.into_std().unwrap());
        TcpStream::from(socket).shutdown(Shutdown::Both).unwrap();
    }
}

async fn accept(listener: TcpListener, road: Arc<Road>, end: CancellationToken) -> TcpListener {
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = end.cancelled() => return listener,
        };
        // Joins here, so that a cut misses nobody who was accepted before.
        let crowd = road.join();
        tokio::spawn(line::run(client, Arc::clone(&road), crowd));
    }
}
