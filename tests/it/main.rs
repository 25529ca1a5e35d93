//! Tests against real servers: the private ones of `rollcall servers`, or those that `DATABASE_URL`
//! and `AMQP_URL` name. Each test has a database and queues of its own.

mod commands;
mod conformance;
mod headers;
mod intake;
mod law;
mod memory;
mod merges;
mod operations;
mod publishing;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
