//! rollcall: applies Telegram community events from `RabbitMQ` to `PostgreSQL`, so that the rows depend
//! on the set of distinct valid events and on nothing else.
//!
//! A delivery walks through six rooms: [`consume`], [`decode`], [`batch`], [`plan`], [`apply`],
//! [`settle`]; only [`pipeline`] knows them all.

pub mod apply;
pub mod archive;
pub mod batch;
pub mod broker;
pub mod clock;
pub mod commands;
pub mod consume;
pub mod database;
pub mod decode;
pub mod failure;
pub mod http;
pub mod letters;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod pipeline;
pub mod plan;
pub mod replay;
pub mod retry;
pub mod sabotage;
pub mod scenario;
pub mod servers;
pub mod settings;
pub mod settle;
pub mod shutdown;
pub mod status;
