//! Tests against real servers: the private ones of `rollcall servers`, or those that `DATABASE_URL`
//! and `AMQP_URL` name. Each test has a database and queues of its own.

mod commands;
mod conformance;
mod dead_letters;
mod headers;
mod intake;
mod isolation;
mod law;
mod memory;
mod merges;
mod operations;
mod partitions;
mod procedure;
mod proxy;
mod publishing;
mod refusals;
mod replay;
mod servers;
mod status;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with tests/chaos, which uses the rest")]
mod support;
mod traps;
