//! Private PostgreSQL and RabbitMQ nodes for the demo, the tests and development.
//!
//! Two processes share the work. The *owner* (`rollcall servers`, [`own`]) starts both servers in a fresh folder and
//! stops them when its standard input ends. The *user* holds a [`Servers`]: the other end of that pipe, which the
//! kernel closes however the user dies. Through it the user has single servers stopped and started in between.

mod child;
mod folder;
mod install;
mod leftovers;
mod messages;
mod owner;
mod pair;
mod ports;
mod postgres;
mod processes;
mod rabbitmq;
mod secret;
mod stdin;
mod stop;
mod user;

use std::fmt;
use std::io::Write;

pub use self::messages::{PostgresStop, RabbitMqStop};
pub use self::owner::own;
pub use self::pair::Servers;

/// Tells the person at the terminal what is going on.
///
/// Unlike `eprintln!` it survives that nobody reads any more: the servers must be stopped even then.
fn note(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "servers: {text}");
}
