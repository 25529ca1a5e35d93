use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;

/// Sees what the AMQP connections carry.
pub trait Watcher: Send + Sync {
    /// A client acks these deliveries, as far as they came since there is a watcher. The ack is forwarded only when
    /// the future is done, or never if a trap springs at it.
    fn acked(&self, deliveries: Vec<Delivered>) -> BoxFuture<'_, ()>;

    /// The broker confirmed a message that it did not return. The confirm is forwarded afterwards, unless a trap
    /// springs at it.
    fn confirmed(&self, published: Published);
}

/// A delivery, or the answer to a get.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Empty for a get.
    pub queue_consumer_tag: String,
    pub redelivered: bool,
    /// When all of it had come.
    pub at: Instant,
    pub body: Arc<[u8]>,
}

/// What a client published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub exchange: String,
    pub routing_key: String,
    pub body: Arc<[u8]>,
}
