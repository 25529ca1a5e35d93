//! Which deliveries of a partition's channel are settled, and which acks say so.

use std::collections::VecDeque;

use crate::{
    decode::Kind,
    metrics::{Held, InFlight},
    sabotage::{Bug, is_on},
};

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows are committed.
    Applied,
    /// It holds no fact.
    Ignored,
    /// Its dead letter is confirmed.
    DeadLettered,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Ignored, Self::DeadLettered];

    /// As it stands in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// The right to settle one delivery, once: it is moved, never copied, and means something only to the
/// ledger of the session that the delivery came by.
#[derive(Debug)]
#[must_use = "a delivery that is not settled stays with the broker's unacked ones"]
pub struct Receipt {
    /// The partition that the delivery came from.
    pub partition: usize,
    tag: u64,
    /// What the event tells of, once somebody has looked.
    pub kind: Kind,
    _held: Held,
}

/// Receipts that come back, all with the same outcome.
#[derive(Debug)]
pub struct Settled {
    /// How the events ended.
    pub outcome: Outcome,
    /// Whose.
    pub receipts: Vec<Receipt>,
}

/// An ack to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Whose channel it is for.
    pub partition: usize,
    /// The delivery tag.
    pub tag: u64,
    /// Whether it stands for all before it too.
    pub multiple: bool,
    /// Deliveries that it settles.
    pub count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Passed over: its delivery may come yet.
    Expected,
    Open,
    Settled,
    Acked,
}

/// The deliveries of a session, a channel for each partition: acks for all up to one need no other partition.
#[derive(Debug)]
pub struct Ledger {
    channels: Vec<Channel>,
    limits: AckLimits,
    in_flight: InFlight,
}

/// Bounds for acks, in deliveries of a channel.
#[derive(Debug, Clone, Copy)]
pub struct AckLimits {
    /// More stuck ones than this are acked one by one, so that one slow event cannot use up the prefetch.
    pub max_stuck: usize,
    /// An ack of a prefix settles no more than this; what is left of the prefix gets another.
    pub max_settled: u64,
}

/// By tag; the broker counts them from 1 without gaps.
#[derive(Debug)]
struct Channel {
    /// Tag of the first in `deliveries`.
    first: u64,
    deliveries: VecDeque<State>,
    /// Settled, but behind an open one.
    stuck: usize,
}

impl Ledger {
    /// For fresh channels.
    #[must_use]
    pub fn new(partitions: usize, limits: AckLimits, in_flight: InFlight) -> Self {
        let channel = || Channel { first: 1, deliveries: VecDeque::new(), stuck: 0 };
        Self { channels: (0..partitions).map(|_| channel()).collect(), limits, in_flight }
    }

    /// Enters a delivery. `None` for a tag that came before, which no sound broker sends.
    pub fn enter(&mut self, partition: usize, tag: u64) -> Option<Receipt> {
        self.channels.get_mut(partition)?.enter(tag)?;
        Some(Receipt { partition, tag, kind: Kind::None, _held: self.in_flight.hold() })
    }

    /// Strikes out deliveries.
    pub fn settle(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        for Receipt { partition, tag, .. } in receipts {
            if let Some(channel) = self.channels.get_mut(partition) {
                channel.settle(tag);
            }
        }
    }

    /// Deliveries that are neither settled nor acked.
    #[must_use]
    pub fn open(&self) -> usize {
        self.count(|state| state == State::Open)
    }

    /// Deliveries whose ack was not taken yet.
    #[must_use]
    pub fn unacked(&self) -> usize {
        self.count(|state| matches!(state, State::Open | State::Settled))
    }

    fn count(&self, is_meant: impl Fn(State) -> bool) -> usize {
        self.channels.iter().flat_map(|channel| &channel.deliveries).filter(|state| is_meant(**state)).count()
    }

    /// The acks of all that is settled, whatever is open.
    pub fn all_acks(&mut self) -> Vec<Ack> {
        self.acks_within(AckLimits { max_stuck: 0, ..self.limits })
    }

    /// The acks that are due: of each channel's settled prefix, and one each for those that wait too long.
    pub fn acks(&mut self) -> Vec<Ack> {
        self.acks_within(self.limits)
    }

    fn acks_within(&mut self, limits: AckLimits) -> Vec<Ack> {
        let channels = self.channels.iter_mut().enumerate();
        channels.flat_map(|(partition, channel)| channel.acks(partition, limits)).collect()
    }
}

impl Channel {
    /// A tag that is passed over counts as expected.
    fn enter(&mut self, tag: u64) -> Option<()> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        if at >= self.deliveries.len() {
            self.deliveries.resize(at + 1, State::Expected);
        }
        if self.deliveries[at] != State::Expected {
            return None;
        }
        self.deliveries[at] = State::Open;
        Some(())
    }

    fn settle(&mut self, tag: u64) {
        let at = tag.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(state @ State::Open) = at.and_then(|at| self.deliveries.get_mut(at)) {
            *state = State::Settled;
            self.stuck += 1;
        }
    }

    fn acks(&mut self, partition: usize, limits: AckLimits) -> Vec<Ack> {
        if is_on(Bug::AckPastOpen)
            && let Some(last) = self.deliveries.iter().rposition(|state| *state == State::Settled)
        {
            self.deliveries.iter_mut().take(last).for_each(|state| *state = State::Acked);
        }
        let mut acks = Vec::new();
        let (mut last, mut count) = (None, 0);
        while let Some(state @ (State::Settled | State::Acked)) = self.deliveries.front() {
            // The ack must name a tag that is still unacked, or the broker closes the channel.
            if *state == State::Settled {
                last = Some(self.first);
                count += 1;
                self.stuck -= 1;
            }
            self.deliveries.pop_front();
            self.first += 1;
            if count == limits.max_settled {
                acks.extend(last.take().map(|tag| Ack { partition, tag, multiple: true, count }));
                count = 0;
            }
        }
        acks.extend(last.map(|tag| Ack { partition, tag, multiple: true, count }));
        if self.stuck > limits.max_stuck {
            for (tag, state) in (self.first..).zip(&mut self.deliveries) {
                if *state == State::Settled {
                    *state = State::Acked;
                    acks.push(Ack { partition, tag, multiple: false, count: 1 });
                }
            }
            self.stuck = 0;
        }
        acks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;

    fn ledger(max_stuck: usize) -> Ledger {
        Ledger::new(2, AckLimits { max_stuck, max_settled: 99 }, Metrics::new().in_flight)
    }

    fn prefix(tag: u64, count: u64) -> Ack {
        Ack { partition: 1, tag, multiple: true, count }
    }

    fn single(tag: u64) -> Ack {
        Ack { partition: 1, tag, multiple: false, count: 1 }
    }

    fn enter(ledger: &mut Ledger, count: u64) -> Vec<Receipt> {
        (1..=count).map(|tag| ledger.enter(1, tag).unwrap()).collect()
    }

    #[test]
    fn a_settled_prefix_is_one_ack() {
        let mut ledger = ledger(10);
        let mut receipts = enter(&mut ledger, 5);
        let last = receipts.pop();
        ledger.settle(receipts.drain(1..));
        assert_eq!(ledger.acks(), []);
        ledger.settle(receipts);
        assert_eq!(ledger.acks(), [prefix(4, 4)]);
        ledger.settle(last);
        assert_eq!(ledger.acks(), [prefix(5, 1)]);
        assert_eq!(ledger.acks(), []);
    }

    #[test]
    fn an_ack_settles_no_more_than_allowed() {
        let limits = AckLimits { max_stuck: 9, max_settled: 2 };
        let mut ledger = Ledger::new(2, limits, Metrics::new().in_flight);
        let receipts = enter(&mut ledger, 7);
        let (second, others): (Vec<_>, Vec<_>) = receipts.into_iter().partition(|receipt| receipt.tag == 2);
        ledger.settle(others);
        assert_eq!(ledger.acks(), [prefix(1, 1)]);
        ledger.settle(second);
        assert_eq!(ledger.acks(), [prefix(3, 2), prefix(5, 2), prefix(7, 2)]);
        assert_eq!((ledger.open(), ledger.unacked()), (0, 0));
    }

    #[test]
    fn one_slow_delivery_does_not_hold_the_others() {
        let mut ledger = ledger(2);
        let mut receipts = enter(&mut ledger, 4);
        let slow = receipts.remove(0);
        ledger.settle(receipts);
        assert_eq!(ledger.acks(), [single(2), single(3), single(4)]);
        ledger.settle([slow]);
        assert_eq!(ledger.acks(), [prefix(1, 1)]);
    }

    #[test]
    fn at_the_end_all_that_is_settled_is_acked() {
        let mut ledger = ledger(99);
        let mut receipts = enter(&mut ledger, 3);
        let open = receipts.remove(1);
        ledger.settle(receipts);
        assert_eq!(ledger.all_acks(), [prefix(1, 1), single(3)]);
        assert_eq!((open.tag, ledger.open(), ledger.unacked()), (2, 1, 1));
    }

    #[test]
    fn each_partition_has_its_own_prefix() {
        let mut ledger = ledger(9);
        let slow = ledger.enter(0, 1);
        let quick = ledger.enter(1, 1);
        ledger.settle(quick);
        assert_eq!(ledger.acks(), [prefix(1, 1)]);
        ledger.settle(slow);
        assert_eq!(ledger.acks(), [Ack { partition: 0, tag: 1, multiple: true, count: 1 }]);
        assert!(ledger.enter(2, 1).is_none(), "there are two");
    }

    #[test]
    fn a_tag_that_is_passed_over_is_open() {
        let mut ledger = ledger(9);
        let second = ledger.enter(1, 2);
        ledger.settle(second);
        assert_eq!(ledger.acks(), []);
        let first = ledger.enter(1, 1);
        ledger.settle(first);
        assert_eq!(ledger.acks(), [prefix(2, 2)]);
        assert!(ledger.enter(1, 2).is_none());
    }

    proptest! {
        #[test]
        fn exactly_the_settled_are_acked_and_each_once(order in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(), arrival in Just((1..=60_u64).collect::<Vec<_>>()).prop_shuffle(), steps in 1..9_usize, max_stuck in 0..20_usize, max_settled in 1..9_u64) {
            let mut ledger = Ledger::new(2, AckLimits { max_stuck, max_settled }, Metrics::new().in_flight);
            let mut receipts: Vec<_> = (0..60).map(|_| None).collect();
            for tag in arrival {
                receipts[usize::try_from(tag).unwrap() - 1] = ledger.enter(1, tag);
            }
            let (mut settled, mut unacked) = (BTreeSet::<u64>::new(), (1..=60).collect::<BTreeSet<u64>>());
            let mut counted = 0;
            for tags in order.chunks(steps) {
                settled.extend(tags);
                ledger.settle(tags.iter().filter_map(|tag| receipts[usize::try_from(*tag).unwrap() - 1].take()));
                for ack in ledger.acks() {
                    prop_assert!(unacked.contains(&ack.tag), "the broker does not know tag {}", ack.tag);
                    counted += ack.count;
                    let acked: Vec<_> = unacked.iter().copied().filter(|tag| *tag == ack.tag || ack.multiple && *tag < ack.tag).collect();
                    for tag in acked {
                        prop_assert!(settled.contains(&tag), "{tag} was acked and is open");
                        unacked.remove(&tag);
                    }
                }
                prop_assert_eq!(ledger.open(), 60 - settled.len());
                prop_assert_eq!(u64::try_from(unacked.len()).unwrap(), 60 - counted);
            }
            prop_assert!(unacked.is_empty());
        }
    }
}
