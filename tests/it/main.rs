//! Tests against real servers: the private ones of `rollcall servers`, or those that `DATABASE_URL`
//! and `AMQP_URL` name. Each test has a database and queues of its own.

mod conformance;
mod intake;
mod law;
mod merges;
mod operations;
mod publishing;
mod refusals;
mod support;
