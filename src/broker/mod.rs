//! `RabbitMQ`: connections and the topology.

mod connection;
mod headers;
mod inspect;
mod publisher;
mod topology;

pub use connection::{close, connect, describe};
pub use headers::{delivery_count, refusal, sound, to_json};
pub use inspect::{Queue, inspect, remove};
pub use publisher::{PublishError, Publisher, Unconfirmed};
pub use topology::{Topology, declare};
