//! Settle: an event is acked after its rows are committed, or after its dead letter is confirmed.

mod ledger;
mod letter;

pub use ledger::{Ack, AckLimits, Ledger, Outcome, Receipt, Settled};
pub use letter::{Letter, Refused, publish_letters};
