//! A way to `RabbitMQ` or `PostgreSQL` that understands what passes, and acts exactly at a chosen point.
//!
//! Messages are read in place and forwarded whole. Nothing may be encrypted.

mod address;
mod amqp;
mod channels;
mod direction;
mod inbox;
mod line;
mod listening;
mod point;
mod postgres;
mod reader;
mod road;
mod signal;
mod trap;
mod watcher;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

use address::Address;
use listening::{Listening, bind, bind_anywhere};
use road::Road;

pub use address::Protocol;
pub use point::{Action, Point};
pub use trap::Trap;
pub use watcher::{Delivered, Published, Watcher};

/// A port that leads to a server; open from the start. All connections are cut when it is dropped.
pub struct Proxy {
    url: String,
    port: u16,
    road: Arc<Road>,
    listening: Mutex<Option<Listening>>,
}

impl Proxy {
    /// A way to the server that a URL names.
    pub async fn to(url: &str) -> Self {
        Self::on(bind_anywhere().await, url)
    }

    fn on(listener: TcpListener, url: &str) -> Self {
        let address = Address::of(url);
        let port = listener.local_addr().unwrap().port();
        let road = Arc::new(Road::to(&address));
        let listening = Mutex::new(Some(Listening::on(listener, &road)));
        Self { url: address.by_way_of(port), port, road, listening }
    }

    /// As [`Self::to`], on a port on which nobody listens any more.
    pub async fn in_the_place_of(port: u16, url: &str) -> Self {
        Self::on(bind(port).await.unwrap(), url)
    }

    /// As [`Self::to`], closed at first: nothing listens.
    pub async fn closed(url: &str) -> Self {
        let proxy = Self::to(url).await;
        proxy.close().await;
        proxy
    }

    /// The server's URL by way of this port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Leads new connections to the server of another URL.
    pub fn set_target(&self, url: &str) {
        self.road.set_target(&Address::of(url));
    }

    /// Lets the action happen at the k-th time that the point is met from now on, on whatever connection; once.
    /// Where two are due at the same time, the later armed one waits for the next.
    pub fn arm(&self, point: Point, kth: u32, action: Action) -> Trap {
        self.road.traps.arm(point, kth, action)
    }

    /// How often a point was met, whether or not it was forwarded then.
    pub fn seen(&self, point: Point) -> u64 {
        self.road.traps.seen(point)
    }

    /// When a point was last forwarded: never later than what it made the other side send.
    pub fn last_seen(&self, point: Point) -> Option<Instant> {
        self.road.traps.last_seen(point)
    }

    /// Delays each direction by so much from now on.
    pub fn delay(&self, latency: Duration) {
        self.road.change_weather(|weather| weather.latency = latency);
    }

    /// Forwards in writes of so many bytes from now on.
    pub fn slice(&self, bytes: Option<usize>) {
        assert_ne!(bytes, Some(0), "nothing would pass");
        self.road.change_weather(|weather| weather.slice = bytes);
    }

    /// Closes the way: nobody listens, and what is connected is cut.
    pub async fn close(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(listening) = listening {
            listening.end().await;
        }
        self.cut();
    }

    /// Opens the way again, on the same port.
    pub async fn open(&self) {
        let is_closed = self.listening.lock().unwrap().is_none();
        if is_closed {
            let listener = bind(self.port).await.unwrap();
            *self.listening.lock().unwrap() = Some(Listening::on(listener, &self.road));
        }
    }

    /// Cuts every connection, and returns how many there were. New ones are let through.
    pub fn cut(&self) -> usize {
        self.road.cut()
    }

    /// From on to off nothing passes on any connection, new ones too; then what was held back does, in order.
    pub fn swallow(&self, on: bool) {
        self.road.block(on);
    }

    /// How many connections go this way now.
    pub fn connections(&self) -> usize {
        self.road.connections()
    }

    /// Tells from now on what the connections carry.
    pub fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.road.watch(watcher);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}
