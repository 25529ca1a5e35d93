//! `RabbitMQ`: connections and the topology.

mod connection;
mod headers;
mod inspect;
mod management;
mod outbox;
mod partitions;
mod publisher;
mod topology;

pub use connection::{Frames, close, connect, connect_with, describe, in_time};
pub use headers::{delivery_count, published_at, refusal, sound, to_json};
pub use inspect::{Queue, inspect, remove};
pub use management::{Consumer, Figures, Management};
pub use outbox::{Message, Notice, Outbox};
pub use partitions::{Progress, PruneError, apply, prune};
pub use publisher::{PublishError, Publisher, Unconfirmed};
pub use topology::{OtherArguments, Topology, connect_and_declare, declare};

/// A log filter's part that keeps the client for `RabbitMQ` silent: it would log every error a second time.
pub const SILENT_CLIENT: &str = "lapin=off";
