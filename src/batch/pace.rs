//! Whether what waits leaves at once, or more gathers first.

use std::time::{Duration, Instant};

/// Transactions of so few events are over before more can gather.
pub(super) const FEW: usize = 64;
/// So long fewer wait for one of few, should it take longer: two of them at once cost more than one of all, and are slower where
/// cores are busy.
pub(super) const LONGEST_OF_FEW: Duration = Duration::from_millis(5);
/// So long more is waited for while others are written, should it take longer.
pub(super) const LONGEST_GATHERING: Duration = Duration::from_millis(20);
/// So much longer where all that waits is of partitions that are being written: it is mostly of the organizations that those
/// transactions hold, and the rest costs less together with these.
pub(super) const LONGER_IF_WRITTEN: Duration = Duration::from_millis(30);
/// So long more is waited for while many arrive and nobody writes.
const LONGEST_OF_MANY: Duration = Duration::from_millis(40);
/// Arrivals are counted for so long, at least, before it is said whether they were many.
pub(super) const WINDOW: Duration = Duration::from_millis(10);
/// Transactions take turns for so long after one of them met another replica's.
pub(super) const CROWDED: Duration = Duration::from_secs(2);
/// So long a turn is waited for, should it take longer: the transaction before may wait for a lock that somebody else keeps.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What could leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Events in all.
    pub(super) events: usize,
    /// Of the partition that has the most, of those that no transaction is open of; all where these have none.
    pub(super) most: usize,
    /// Whether these have none.
    pub(super) is_written: bool,
}

/// A row that two events change is written once if they are in one transaction, and the more are, the more often it is so.
/// Those of one partition are of fewer organizations, and so of the same rows.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Events of open transactions.
    open: usize,
    /// When what has gathered leaves in any case, but for what is added to it.
    until: Option<Instant>,
    /// Added while all that waits is of partitions that are being written.
    longer: Duration,
    /// When a transaction last met another replica's.
    met_at: Option<Instant>,
    arrivals: Arrivals,
    /// Whether the last transaction was one organization's.
    was_alone: bool,
    /// Whether open transactions hold the organizations of most of what waits.
    is_held: bool,
    /// Whether nothing more arrives.
    is_closed: bool,
}

/// Events that arrived, and since when.
#[derive(Debug, Default)]
struct Arrivals {
    count: usize,
    since: Option<Instant>,
    /// Whether those of the last two windows were many. On cores that others use too events come in bursts, and one poor window
    /// says little.
    were_many: [bool; 2],
}

impl Arrivals {
    /// Whether so many arrive that half of what is worth a transaction comes while it is waited for.
    fn are_many(&mut self, worthwhile: usize, now: Instant) -> bool {
        let time = now.saturating_duration_since(*self.since.get_or_insert(now));
        if time >= WINDOW {
            let in_longest = self.count as u128 * LONGEST_OF_MANY.as_nanos() / time.as_nanos();
            let were_many = in_longest >= (worthwhile / 2) as u128;
            *self = Self { count: 0, since: Some(now), were_many: [were_many, self.were_many[0]] };
        }
        self.were_many.contains(&true)
    }
}

impl Pace {
    /// A transaction met another replica's in the same rows. To wait for each other, and to do things once more, costs more than
    /// to write one after the other: meanwhile more gathers.
    pub(super) const fn met(&mut self, now: Instant) {
        self.met_at = Some(now);
    }

    /// Whether another replica was met lately.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        self.met_at.is_some_and(|time| now.saturating_duration_since(time) < CROWDED)
    }

    /// Nothing more arrives: nothing is waited for.
    pub(super) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// An event arrived.
    pub(super) const fn arrived(&mut self) {
        self.arrivals.count += 1;
    }

    /// Whether more should gather than what waits, until [`Self::due`] at the latest.
    pub(super) fn gathers(&mut self, waiting: Waiting, worthwhile: usize, now: Instant) -> bool {
        let are_many = self.arrivals.are_many(worthwhile, now);
        let (waits, longest) = if self.is_crowded(now) {
            (self.open > 0, LONGEST_WAIT)
        } else if self.open > FEW {
            (self.is_held || waiting.most < worthwhile, LONGEST_GATHERING)
        } else {
            // With a single organization nobody writes while it gathers.
            let enough = if self.was_alone { worthwhile / 2 } else { worthwhile };
            if are_many && waiting.events < enough {
                (true, LONGEST_OF_MANY)
            } else {
                (self.open > 0 && waiting.events < worthwhile.min(FEW), LONGEST_OF_FEW)
            }
        };
        waits && waiting.events > 0 && !self.is_closed && self.lasts(longest, waiting, now)
    }

    /// Of what waits, nobody holds so many events: whether a transaction that is over had better give back more first.
    pub(super) fn waits_for_others(
        &mut self,
        waiting: Waiting,
        free: impl FnOnce() -> usize,
        worthwhile: usize,
        now: Instant,
    ) -> bool {
        let may_wait = self.open > FEW && !self.is_closed;
        self.is_held = may_wait && free() < worthwhile && self.lasts(LONGEST_GATHERING, waiting, now);
        self.is_held
    }

    /// Whether it may gather on.
    fn lasts(&mut self, longest: Duration, waiting: Waiting, now: Instant) -> bool {
        let is_longer = waiting.is_written && self.open > FEW;
        self.longer = if is_longer { LONGER_IF_WRITTEN } else { Duration::ZERO };
        *self.until.get_or_insert(now + longest) + self.longer > now
    }

    /// A transaction of so many events left, of so many organizations.
    pub(super) const fn left(&mut self, events: usize, organizations: usize) {
        self.open += events;
        self.was_alone = organizations == 1;
        self.until = None;
    }

    /// One is over.
    pub(super) const fn came_back(&mut self, events: usize) {
        self.open -= events;
        self.is_held = false;
    }

    /// When what gathers leaves in any case.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.until.map(|time| time + self.longer).filter(|time| *time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poor_window_after_one_in_which_many_arrived_changes_nothing() {
        let (begun, mut arrivals) = (Instant::now(), Arrivals::default());
        let mut arrive = |count, window| {
            arrivals.count += count;
            arrivals.are_many(100, begun + window * WINDOW)
        };
        assert!(!arrive(0, 0), "nothing is known");
        assert!(!arrive(12, 1), "not half of what is worth a transaction in four times that time");
        assert_eq!([arrive(13, 2), arrive(0, 3), arrive(0, 4)], [true, true, false]);
        assert_eq!([arrive(13, 5), arrive(12, 6), arrive(13, 7), arrive(0, 8)], [true; 4]);
    }
}
