//! Deliveries that came back so often that one of them may end whoever looks into it.
//!
//! They are set aside unread until all others are settled, and then looked into alone, in random order: if one
//! of them ends the process, the others have had their chance, and will have it again. So only the culprit
//! comes back often enough to be quarantined.

use std::time::{Duration, Instant};

use crate::{
    clock::Milliseconds,
    settle::{Letter, Receipt},
};

/// How long more of them are waited for, and how long others may take to be settled before one is looked into.
const PATIENCE: Duration = Duration::from_secs(1);

/// A delivery that nobody has looked into.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) letter: Letter,
    pub(super) receipt: Receipt,
    pub(super) published_at: Option<Milliseconds>,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Take what comes.
    All { until: Option<Instant> },
    /// Take nothing more; let what is there be settled.
    Settle { until: Instant },
    /// Look into this.
    Suspect(Taken),
}

#[derive(Debug, Default)]
pub(super) struct Suspects {
    waiting: Vec<Taken>,
    /// When the next one is looked into at the latest.
    next: Option<Instant>,
    is_closed: bool,
}

impl Suspects {
    pub(super) fn set_aside(&mut self, taken: Taken, now: Instant) {
        self.waiting.push(taken);
        self.next.get_or_insert(now + PATIENCE);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none()
    }

    /// All that wait, for the end.
    pub(super) fn take_all(&mut self) -> Vec<Taken> {
        std::mem::take(self).waiting
    }

    /// `open` tells how many deliveries are not settled, those set aside included.
    pub(super) fn turn(&mut self, open: impl FnOnce() -> usize, now: Instant) -> Turn {
        let Some(next) = self.next else { return Turn::All { until: None } };
        if !self.is_closed {
            if now < next {
                return Turn::All { until: Some(next) };
            }
            self.is_closed = true;
            self.next = Some(now + PATIENCE);
            return self.turn(open, now);
        }
        if now < next && open() > self.waiting.len() {
            return Turn::Settle { until: next };
        }
        if self.waiting.is_empty() {
            *self = Self::default();
            return Turn::All { until: None };
        }
        self.next = Some(now + PATIENCE);
        Turn::Suspect(self.waiting.swap_remove(fastrand::usize(..self.waiting.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::Metrics,
        settle::{AckLimits, Ledger},
    };

    const LIMITS: AckLimits = AckLimits { max_stuck: 9, max_settled: 9 };

    fn taken(ledger: &mut Ledger, tag: u64) -> Taken {
        let letter = Letter { body: tag.to_string().into_bytes(), routing_key: String::new() };
        Taken { letter, receipt: ledger.enter(0, tag).unwrap(), published_at: None }
    }

    #[test]
    fn each_is_looked_into_when_all_others_are_settled() {
        let mut ledger = Ledger::new(1, LIMITS, Metrics::new().in_flight);
        let mut suspects = Suspects::default();
        let now = Instant::now();
        assert!(matches!(suspects.turn(|| 5, now), Turn::All { until: None }));
        for tag in 1..=2 {
            suspects.set_aside(taken(&mut ledger, tag), now);
        }
        assert!(matches!(suspects.turn(|| 5, now), Turn::All { until: Some(_) }));
        let later = now + PATIENCE;
        assert!(matches!(suspects.turn(|| 5, later), Turn::Settle { .. }), "three others are open");
        let Turn::Suspect(first) = suspects.turn(|| 2, later) else { panic!("all others are settled") };
        assert!(matches!(suspects.turn(|| 2, later), Turn::Settle { .. }), "the first is not settled yet");
        let Turn::Suspect(second) = suspects.turn(|| 1, later) else { panic!("the first is settled") };
        assert_ne!(first.letter, second.letter);
        assert!(matches!(suspects.turn(|| 1, later), Turn::Settle { .. }), "the second is not settled yet");
        assert!(matches!(suspects.turn(|| 0, later), Turn::All { until: None }));
    }

    #[test]
    fn others_that_are_never_settled_are_not_waited_for_for_ever() {
        let mut ledger = Ledger::new(1, LIMITS, Metrics::new().in_flight);
        let mut suspects = Suspects::default();
        let now = Instant::now();
        suspects.set_aside(taken(&mut ledger, 1), now);
        assert!(matches!(suspects.turn(|| 2, now + PATIENCE), Turn::Settle { .. }));
        assert!(matches!(suspects.turn(|| 2, now + 2 * PATIENCE), Turn::Suspect(_)));
        assert!(matches!(suspects.turn(|| 2, now + 2 * PATIENCE), Turn::Settle { .. }));
        assert!(matches!(suspects.turn(|| 2, now + 3 * PATIENCE), Turn::All { until: None }));
    }

    #[test]
    fn each_has_an_even_chance_to_be_before_the_other() {
        let first = || {
            let mut ledger = Ledger::new(1, LIMITS, Metrics::new().in_flight);
            let mut suspects = Suspects::default();
            let now = Instant::now();
            (1..=2).for_each(|tag| suspects.set_aside(taken(&mut ledger, tag), now));
            let Turn::Suspect(first) = suspects.turn(|| 2, now + PATIENCE) else { panic!("a suspect") };
            first.letter.body
        };
        let ones = (0..200).filter(|_| first() == b"1").count();
        assert!((50..150).contains(&ones), "{ones}");
    }
}
