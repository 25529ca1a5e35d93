use std::sync::Arc;

use super::{Delivered, Point, Protocol, Published, amqp, postgres};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Understands what one side of a connection says.
pub trait Reader: Send {
    /// How long the message is that these bytes begin with, once enough is there to tell.
    fn length(&self, bytes: &[u8]) -> Option<usize>;

    /// Reads the next whole message. Bodies are remembered only for a watcher.
    fn read(&mut self, message: &[u8], is_watched: bool) -> Reading;
}

/// What a message is.
#[derive(Debug, Default)]
pub struct Reading {
    pub point: Option<Point>,
    /// Another one that it is at the same time, met after the first.
    pub also: Option<Point>,
    /// Tells apart what may come interleaved.
    pub channel: u16,
    /// Nothing more follows on the channel that belongs to this.
    pub is_complete: bool,
    pub acked: Vec<Delivered>,
    pub confirmed: Vec<Published>,
}

/// The readers of a connection: of its client, and of its server.
pub fn pair(protocol: Protocol) -> [Box<dyn Reader>; 2] {
    match protocol {
        Protocol::Amqp => {
            let channels = Arc::default();
            [Side::Client, Side::Server].map(|side| Box::new(amqp::Frames::of(side, &channels)) as Box<dyn Reader>)
        }
        Protocol::Postgres => [Box::new(postgres::Requests::default()), Box::new(postgres::Answers::default())],
    }
}
