//! The law: the rows depend on the set of distinct valid events, and on nothing else.
//!
//! Small worlds of events that collide a lot, delivered in any order, number and split, against a
//! straightforward fold of the contract. `PROPTEST_CASES` sets the number of cases.

mod calendar;
mod content;
mod database;
mod fold;
mod model;
mod race;
mod rows;
mod runner;
mod world;
