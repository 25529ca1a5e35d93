//! Letters: the dead letters as rows of `dead_letters`, for the people who look after them.
//!
//! They come from [`crate::archive`] and go back to the events by [`crate::replay`].

mod filter;
mod listing;
mod resolve;

pub use filter::{Filter, Status};
pub use listing::{Chosen, Entry, Group, History, Letter, find, groups, history, letter, list};
pub use resolve::{discard, expire, restore};
