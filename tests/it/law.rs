//! The law: the rows depend on the set of distinct valid events, and on nothing else.
//!
//! Small worlds of events that collide a lot, delivered in any order, number and split, against a
//! straightforward fold of the contract. `PROPTEST_CASES` sets the number of cases.

mod content;
mod database;
mod fold;
mod race;
mod runner;
mod world;

use crate::support::model::{self, calendar, rows};
