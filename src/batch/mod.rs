//! Batch: events wait by organization until their writer is idle, and leave as many as fit.
//!
//! Pure: the clock is a parameter. There is no fixed waiting: at low load a batch holds one event, at high
//! load it is full, because more arrives while the writer is busy. Partitions take turns, so that a transaction
//! settles what was delivered together, of few organizations; within a partition organizations take turns, so that
//! a noisy one cannot starve a quiet one. What waits is bounded by the prefetch.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use uuid::Uuid;

/// How much leaves at once.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Events of one organization.
    pub max_events: usize,
    /// Body bytes of one organization; a single longer event still leaves.
    pub max_bytes: usize,
    /// Events of all organizations together.
    pub max_transaction_events: usize,
}

/// Why a batch leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// No more events or bytes fit.
    Full,
    /// The writer is idle, and this is all there is.
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

#[derive(Debug)]
struct Line<E> {
    /// Each with the length of its body.
    events: VecDeque<(E, usize)>,
    not_before: Option<Instant>,
}

impl<E> Batch<E> {
    /// Another of the same organization and partition, without events.
    #[must_use]
    pub const fn like(&self, trigger: Trigger) -> Self {
        Self { partition: self.partition, org: self.org, trigger, events: Vec::new() }
    }
}

/// What waits of one partition.
#[derive(Debug)]
struct Partition<E> {
    lines: HashMap<Uuid, Line<E>>,
    /// The organizations with events, next turn first; each once.
    turns: VecDeque<Uuid>,
}

/// What waits for one writer.
#[derive(Debug)]
pub struct Batcher<E> {
    size: Size,
    partitions: Vec<Partition<E>>,
    /// The partition that the next transaction begins with.
    turn: usize,
}

impl<E> Batcher<E> {
    /// Nothing waits.
    #[must_use]
    pub fn new(partitions: usize, size: Size) -> Self {
        let partition = || Partition { lines: HashMap::new(), turns: VecDeque::new() };
        Self { size, partitions: (0..partitions).map(|_| partition()).collect(), turn: 0 }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.iter().all(|partition| partition.turns.is_empty())
    }

    /// Adds an event behind those of its organization. There must be such a partition.
    pub fn push(&mut self, partition: usize, org: Uuid, event: E, body_bytes: usize) {
        self.partitions[partition].line(org).events.push_back((event, body_bytes));
    }

    /// Puts a batch back, to leave again no earlier than `not_before`; others pass it meanwhile.
    pub fn defer(&mut self, batch: Batch<E>, not_before: Instant) {
        let line = self.partitions[batch.partition].line(batch.org);
        // The length no longer matters: what left as a batch once may leave as one again.
        line.events.extend(batch.events.into_iter().map(|event| (event, 0)));
        line.not_before = Some(not_before);
    }

    /// Takes the next transaction's batches, of each partition at most one of an organization. Empty if nothing waits
    /// or all of it is deferred.
    pub fn take(&mut self, now: Instant) -> Vec<Batch<E>> {
        let mut batches = Vec::new();
        let mut room = self.size.max_transaction_events;
        let count = self.partitions.len();
        for partition in (self.turn..count).chain(0..self.turn) {
            self.partitions[partition].take(partition, now, self.size, &mut room, &mut batches);
        }
        self.turn = (self.turn + 1) % count.max(1);
        batches
    }

    /// When the first deferred batch may leave, if nothing may leave before.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.partitions.iter().flat_map(|partition| partition.lines.values()).filter_map(|line| line.not_before).min()
    }
}

impl<E> Partition<E> {
    fn line(&mut self, org: Uuid) -> &mut Line<E> {
        self.lines.entry(org).or_insert_with(|| {
            self.turns.push_back(org);
            Line { events: VecDeque::new(), not_before: None }
        })
    }

    fn take(&mut self, partition: usize, now: Instant, size: Size, room: &mut usize, batches: &mut Vec<Batch<E>>) {
        for _ in 0..self.turns.len() {
            if *room == 0 {
                break;
            }
            let Some(org) = self.turns.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&org) else { continue };
            if line.not_before.is_some_and(|time| time > now) {
                self.turns.push_back(org);
                continue;
            }
            let was_deferred = line.not_before.take().is_some();
            let events = line.take((*room).min(size.max_events), size.max_bytes);
            *room -= events.len();
            let is_all = line.events.is_empty();
            if is_all {
                self.lines.remove(&org);
            } else {
                self.turns.push_back(org);
            }
            let trigger = match (was_deferred, is_all) {
                (true, _) => Trigger::Again,
                (false, true) => Trigger::Idle,
                (false, false) => Trigger::Full,
            };
            batches.push(Batch { partition, org, trigger, events });
        }
    }
}

impl<E> Line<E> {
    fn take(&mut self, max_events: usize, max_bytes: usize) -> Vec<E> {
        let mut events = Vec::with_capacity(max_events.min(self.events.len()));
        let mut bytes = 0_usize;
        while events.len() < max_events {
            let Some(&(_, length)) = self.events.front() else { break };
            bytes = bytes.saturating_add(length);
            if bytes > max_bytes && !events.is_empty() {
                break;
            }
            events.extend(self.events.pop_front().map(|(event, _)| event));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { max_events: 3, max_bytes: 100, max_transaction_events: 5 };

    fn org(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn batch<E>(org: Uuid, trigger: Trigger, events: Vec<E>) -> Batch<E> {
        Batch { partition: 0, org, trigger, events }
    }

    #[test]
    fn a_quiet_organization_leaves_with_the_first_transaction() {
        let mut batcher = Batcher::new(1, SIZE);
        (0..100).for_each(|event| batcher.push(0, org(1), event, 1));
        batcher.push(0, org(2), 100, 1);
        let batches = batcher.take(Instant::now());
        assert_eq!(batches, [batch(org(1), Trigger::Full, vec![0, 1, 2]), batch(org(2), Trigger::Idle, vec![100])]);
    }

    #[test]
    fn organizations_take_turns() {
        let mut batcher = Batcher::new(1, SIZE);
        for event in 0..30 {
            batcher.push(0, org(event % 3), event, 1);
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(batcher.take(Instant::now()).into_iter().map(|batch| batch.org));
        }
        assert!([0, 1, 2].iter().all(|number| seen.contains(&org(*number))), "{seen:?}");
    }

    #[test]
    fn bytes_bound_a_batch_but_never_block_an_event() {
        let mut batcher = Batcher::new(1, SIZE);
        batcher.push(0, org(1), 'a', 60);
        batcher.push(0, org(1), 'b', 60);
        batcher.push(0, org(1), 'c', 1_000);
        let mut taken = || batcher.take(Instant::now()).into_iter().flat_map(|batch| batch.events).collect::<String>();
        assert_eq!([taken(), taken(), taken(), taken()], ["a", "b", "c", ""]);
    }

    #[test]
    fn a_deferred_organization_waits_and_others_pass() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1, SIZE);
        batcher.defer(batch(org(1), Trigger::Idle, vec![1]), now + Duration::from_secs(1));
        batcher.push(0, org(2), 2, 1);
        assert_eq!(batcher.take(now), [batch(org(2), Trigger::Idle, vec![2])]);
        assert_eq!(batcher.take(now), []);
        assert_eq!(batcher.next_due(), Some(now + Duration::from_secs(1)));
        assert_eq!(batcher.take(now + Duration::from_secs(1)), [batch(org(1), Trigger::Again, vec![1])]);
        assert!(batcher.is_empty());
    }

    #[test]
    fn partitions_take_turns_and_fill_up_what_is_left() {
        let mut batcher = Batcher::new(3, SIZE);
        for partition in [0, 0, 0, 0, 2, 2, 2] {
            batcher.push(partition, org(1), partition, 1);
        }
        let mut taken = || -> Vec<_> {
            batcher.take(Instant::now()).into_iter().map(|batch| (batch.partition, batch.events.len())).collect()
        };
        assert_eq!([taken(), taken()], [vec![(0, 3), (2, 2)], vec![(2, 1), (0, 1)]]);
    }

    proptest! {
        #[test]
        fn every_event_leaves_once_within_the_bounds(pushed in prop::collection::vec((0_usize..3, 0_u8..6, 0_usize..80), 0..200)) {
            let mut batcher = Batcher::new(3, SIZE);
            for (event, &(partition, number, bytes)) in pushed.iter().enumerate() {
                batcher.push(partition, org(number), event, bytes);
            }
            let mut left = Vec::new();
            while !batcher.is_empty() {
                let batches = batcher.take(Instant::now());
                prop_assert!(!batches.is_empty());
                prop_assert!(batches.iter().map(|batch| batch.events.len()).sum::<usize>() <= SIZE.max_transaction_events);
                for batch in batches {
                    prop_assert!((1..=SIZE.max_events).contains(&batch.events.len()));
                    prop_assert!(batch.events.iter().all(|&event| (pushed[event].0, org(pushed[event].1)) == (batch.partition, batch.org)));
                    left.extend(batch.events);
                }
            }
            left.sort_unstable();
            prop_assert_eq!(left, (0..pushed.len()).collect::<Vec<_>>());
        }
    }
}
