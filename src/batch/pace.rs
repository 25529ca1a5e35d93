//! Whether what waits leaves at once, or more gathers first.

use std::time::{Duration, Instant};

/// Transactions of so few events are over before more can gather.
pub(super) const FEW: usize = 64;
/// So long more is waited for while others are written, should that take longer.
pub(super) const LONGEST_GATHERING: Duration = Duration::from_millis(20);
/// Transactions take turns for so long after one of them met another replica's.
pub(super) const CROWDED: Duration = Duration::from_secs(2);
/// So long a turn is waited for, should it take longer: the transaction before may wait for a lock that somebody else keeps.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A row that two events change is written once if they are in one transaction, and the more are, the more often it is so.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Events of open transactions.
    open: usize,
    /// When what has gathered leaves in any case.
    until: Option<Instant>,
    /// When a transaction last met another replica's.
    met_at: Option<Instant>,
}

impl Pace {
    /// A transaction met another replica's in the same rows. To wait for each other, and to do things once more, costs more than
    /// to write one after the other: meanwhile more gathers.
    pub(super) const fn met(&mut self, now: Instant) {
        self.met_at = Some(now);
    }

    /// Whether more should gather than the events that wait, until [`Self::due`] at the latest.
    pub(super) fn gathers(&mut self, waiting: usize, worthwhile: usize, now: Instant) -> bool {
        let is_crowded = self.met_at.is_some_and(|time| now.saturating_duration_since(time) < CROWDED);
        let (waits, longest) = if is_crowded {
            (self.open > 0, LONGEST_WAIT)
        } else {
            (self.open > FEW && waiting < worthwhile, LONGEST_GATHERING)
        };
        waits && waiting > 0 && *self.until.get_or_insert(now + longest) > now
    }

    /// A transaction of so many events left.
    pub(super) const fn left(&mut self, events: usize) {
        self.open += events;
        self.until = None;
    }

    /// One is over.
    pub(super) const fn came_back(&mut self, events: usize) {
        self.open -= events;
    }

    /// When what gathers leaves in any case.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|time| *time > now)
    }
}
