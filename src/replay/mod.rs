//! Replay: dead letters go back to the events, after a look at what that would change.
//!
//! [`preview`] decodes and applies letters as a worker would, and takes it back. [`Replay::run`] publishes them in growing steps,
//! and waits after each for what becomes of it. The set of letters is frozen at the start and kept in the
//! database, so a replay that was interrupted goes on where it was.

mod frozen;
mod preview;
mod run;
mod trial;

pub use frozen::{Outcomes, Refusals, Unfinished, Unsettled, unfinished};
pub use preview::{Prediction, TableRows, preview};
pub use run::{Notice, Options, Replay, Stopped, resume, start};
pub use trial::decode_alone;
