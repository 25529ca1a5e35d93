//! Batch: events wait in the order of their arrival until a writer is idle, and leave as many as fit, by organization.
//!
//! Pure: the clock is a parameter. At low load a batch holds one event, at high load it is full, because more arrives while
//! the writers are busy. While more than a few events are being written, or many arrive, the next transaction waits a moment until
//! it is worth it; while other replicas' transactions are met, until the one before is over, and then the partition leaves that its
//! writer has claimed, if any. Else the fullest partition leaves first, of those of which no transaction is open; none is passed over
//! for ever. What came first of one leaves first, so that it can be
//! acked as one; but an organization has no more than its batch in a transaction, so that a noisy one cannot hold up a quiet one,
//! and it is in one transaction at a time: two would wait for each other's rows. What waits is bounded by the prefetch.

mod batcher;
mod choice;
mod pace;
mod partition;

use uuid::Uuid;

pub use batcher::{Batcher, Hold, Transaction};

/// How much leaves at once.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Events of one organization.
    pub max_events: usize,
    /// Body bytes of one organization; a single longer event still leaves.
    pub max_bytes: usize,
    /// Events of all organizations together.
    pub max_transaction_events: usize,
    /// Idle writers do not share fewer events. While others are written, so many of one partition are waited for, and while many
    /// arrive, so many in all; not long.
    pub worthwhile: usize,
}

/// Why a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// No more events or bytes fit.
    Full,
    /// A writer is idle, and this is all there is.
    Idle,
    /// It was put off before.
    Again,
    /// It is a part of one that failed.
    Split,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 4] = [Self::Full, Self::Idle, Self::Again, Self::Split];

    /// As it stands in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Idle => "idle",
            Self::Again => "again",
            Self::Split => "split",
        }
    }
}

/// Events of one organization, applied all or nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<E> {
    /// Where they came from.
    pub partition: usize,
    /// Whose they are.
    pub org: Uuid,
    /// Why it leaves.
    pub trigger: Trigger,
    /// In the order of arrival, which means nothing.
    pub events: Vec<E>,
}

impl<E> Batch<E> {
    /// Another of the same organization and partition, without events.
    #[must_use]
    pub const fn like(&self, trigger: Trigger) -> Self {
        Self { partition: self.partition, org: self.org, trigger, events: Vec::new() }
    }
}
