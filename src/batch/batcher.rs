use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use uuid::Uuid;

use super::{
    Batch, Size, Trigger, choice,
    pace::{FEW, Pace, Waiting},
    partition::Partition,
};

/// What one transaction writes.
#[derive(Debug, PartialEq, Eq)]
pub struct Transaction<E> {
    /// Of each partition at most one of an organization.
    pub batches: Vec<Batch<E>>,
    /// What is open until it is done.
    pub hold: Hold,
    /// The partitions for the transaction after this one, the one that is most worth it first. None where this one is small, or where a
    /// claim of another of the replica's writers could be taken for another replica's.
    pub wanted: Vec<usize>,
    /// Whether another replica was met lately: then the next partition had better be claimed.
    pub is_crowded: bool,
}

/// The organizations of a transaction, which nobody else gets until it is given back.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "organizations that are not given back wait for ever"]
pub struct Hold {
    orgs: HashSet<Uuid>,
    partitions: Vec<usize>,
    events: usize,
    /// Whether its writer has a claim, or may get one.
    claims: bool,
}

/// What waits for the writers of a session.
#[derive(Debug)]
pub struct Batcher<E> {
    size: Size,
    partitions: Vec<Partition<E>>,
    /// The organizations of open transactions.
    held: HashSet<Uuid>,
    /// When organizations may leave again that were put off.
    deferred: HashMap<Uuid, Instant>,
    waiting: usize,
    /// Open transactions whose writers have claims, or may get one.
    claiming: usize,
    pace: Pace,
}

impl<E> Batcher<E> {
    /// Nothing waits.
    #[must_use]
    pub fn new(partitions: usize, size: Size) -> Self {
        Self {
            size,
            partitions: (0..partitions).map(Partition::new).collect(),
            held: HashSet::new(),
            deferred: HashMap::new(),
            waiting: 0,
            claiming: 0,
            pace: Pace::default(),
        }
    }

    /// How many events wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds an event behind all others. There must be such a partition.
    pub fn push(&mut self, partition: usize, org: Uuid, event: E, body_bytes: usize) {
        self.partitions[partition].push(org, event, body_bytes);
        self.waiting += 1;
        self.pace.arrived();
    }

    /// Nothing more arrives: what waits leaves as soon as it can.
    pub const fn close(&mut self) {
        self.pace.close();
    }

    /// Another replica was met, in the same rows or by what it has claimed: writers take turns for some time.
    pub const fn met(&mut self, now: Instant) {
        self.pace.met(now);
    }

    /// Whether a writer had better wait for more, until [`Self::next_due`] at the latest.
    pub fn gathers(&mut self, now: Instant) -> bool {
        self.pace.gathers(self.could_leave(), self.size.worthwhile, now)
    }

    fn could_leave(&self) -> Waiting {
        let unwritten = self.partitions.iter().filter(|partition| partition.open == 0).map(Partition::waiting);
        let most = unwritten.max().filter(|most| *most > 0);
        Waiting { events: self.waiting, most: most.unwrap_or(self.waiting), is_written: most.is_none() }
    }

    /// Whether that is for many more: where few wait, each event counts.
    pub fn gathers_many(&mut self, now: Instant) -> bool {
        self.waiting >= FEW && self.gathers(now)
    }

    /// Puts a batch back before all others, to leave again no earlier than `not_before`; others pass it meanwhile.
    pub fn defer(&mut self, batch: Batch<E>, not_before: Instant) {
        let Batch { partition, org, events, .. } = batch;
        self.waiting += events.len();
        self.partitions[partition].push_first(org, events);
        self.deferred.insert(org, not_before);
    }

    /// Takes the next transaction, for one of the `idle` writers, who share what waits if that is worth it. One partition after the
    /// other gives to it until it is worth it, first those of which no transaction is open, and of these the fullest; but a
    /// partition that the writer has `claimed` gives all that fits, if it has more than a few. `None` if
    /// nothing waits that is neither deferred nor held, or if more gathers.
    pub fn take(&mut self, now: Instant, idle: usize, claimed: Option<usize>) -> Option<Transaction<E>> {
        if self.waiting == 0 || self.gathers(now) || self.waits_for_others(now) {
            return None;
        }
        let is_crowded = self.pace.is_crowded(now);
        let own = claimed.filter(|own| is_crowded && self.partitions.get(*own).is_some_and(|own| own.waiting() >= FEW));
        let (order, mut room, enough) = if let Some(own) = own {
            (choice::claimed_first(&self.partitions, own), self.size.max_transaction_events, 0)
        } else {
            let shares = (self.waiting / self.size.worthwhile.max(1)).clamp(1, idle.max(1));
            let share = self.waiting.div_ceil(self.organizations(shares));
            let room = self.size.max_transaction_events.min(share);
            // From few partitions: of fewer organizations, whose rows are more often the same, and seldom those of another replica.
            (choice::fullest_first(&self.partitions), room, room.saturating_sub(self.size.worthwhile))
        };
        let (mut batches, mut hold) = (Vec::new(), Hold::default());
        for partition in order {
            if room <= enough {
                break;
            }
            let Self { size, partitions, held, deferred, .. } = self;
            let may_leave = |org: &Uuid| match deferred.get(org) {
                _ if held.contains(org) => None,
                Some(time) if *time > now => None,
                Some(_) => Some(Trigger::Again),
                None => Some(Trigger::Idle),
            };
            let taken = partitions[partition].take(*size, &mut room, may_leave);
            if !taken.is_empty() {
                partitions[partition].open += 1;
                hold.partitions.push(partition);
                batches.extend(taken);
            }
        }
        if batches.is_empty() {
            return None;
        }
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            partition.passed = if hold.partitions.contains(&number) { 0 } else { partition.passed + 1 };
        }
        hold.events = batches.iter().map(|batch| batch.events.len()).sum();
        self.waiting -= hold.events;
        hold.orgs = batches.iter().map(|batch| batch.org).collect();
        self.pace.left(hold.events, hold.orgs.len());
        for org in &hold.orgs {
            self.held.insert(*org);
            if self.deferred.get(org).is_some_and(|time| *time <= now) {
                self.deferred.remove(org);
            }
        }
        hold.claims = is_crowded || claimed.is_some();
        let looks = is_crowded || self.claiming == 0;
        self.claiming += usize::from(hold.claims);
        let wanted = if looks && hold.events > FEW {
            choice::wanted(&self.partitions, &hold.partitions, hold.events, self.size.worthwhile / 2)
        } else {
            Vec::new()
        };
        Some(Transaction { batches, hold, wanted, is_crowded })
    }

    fn waits_for_others(&mut self, now: Instant) -> bool {
        let waiting = self.could_leave();
        let Self { partitions, held, pace, .. } = self;
        let worthwhile = self.size.worthwhile;
        let orgs = partitions.iter().flat_map(Partition::organizations);
        pace.waits_for_others(
            waiting,
            || orgs.filter(|org| !held.contains(org)).take(worthwhile).count(),
            worthwhile,
            now,
        )
    }

    /// How many organizations wait, if it is no more than `most`; at least one.
    fn organizations(&self, most: usize) -> usize {
        let mut orgs = Vec::new();
        for org in self.partitions.iter().flat_map(Partition::organizations) {
            if orgs.len() >= most {
                break;
            }
            if !orgs.contains(&org) {
                orgs.push(org);
            }
        }
        orgs.len().max(1)
    }

    /// Gives back what a transaction held.
    pub fn release(&mut self, hold: Hold) {
        for org in hold.orgs {
            self.held.remove(&org);
        }
        for partition in hold.partitions {
            self.partitions[partition].open -= 1;
        }
        self.claiming -= usize::from(hold.claims);
        self.pace.came_back(hold.events);
    }

    /// When the first deferred organization may leave that nobody holds, or what gathers.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let free = self.deferred.iter().filter(|(org, _)| !self.held.contains(org)).map(|(_, time)| *time);
        free.chain(self.pace.due(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, ops::Range, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::batch::pace::{CROWDED, LONGER_IF_WRITTEN, LONGEST_GATHERING, LONGEST_OF_FEW, LONGEST_WAIT, WINDOW};

    const SIZE: Size = Size { max_events: 3, max_bytes: 100, max_transaction_events: 5, worthwhile: 2 };

    /// So many are enough that others wait for them.
    const LARGE: usize = FEW + 1;
    const LARGE_SIZE: Size = Size { max_events: LARGE, max_transaction_events: LARGE, worthwhile: 10, ..SIZE };

    fn org(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn batch<E>(org: Uuid, trigger: Trigger, events: Vec<E>) -> Batch<E> {
        Batch { partition: 0, org, trigger, events }
    }

    /// What the next transaction of the only idle writer holds, which is done at once.
    fn take<E>(batcher: &mut Batcher<E>, now: Instant) -> Vec<Batch<E>> {
        let Some(Transaction { batches, hold, .. }) = batcher.take(now, 1, None) else { return Vec::new() };
        batcher.release(hold);
        batches
    }

    #[test]
    fn a_quiet_organization_leaves_with_the_first_transaction() {
        let mut batcher = Batcher::new(1, SIZE);
        (0..100).for_each(|event| batcher.push(0, org(1), event, 1));
        batcher.push(0, org(2), 100, 1);
        let batches = take(&mut batcher, Instant::now());
        assert_eq!(batches, [batch(org(1), Trigger::Full, vec![0, 1, 2]), batch(org(2), Trigger::Idle, vec![100])]);
    }

    #[test]
    fn organizations_take_turns() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(1, SIZE));
        for event in 0..30 {
            batcher.push(0, org(event % 3), event, 1);
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(take(&mut batcher, now).into_iter().map(|batch| batch.org));
        }
        assert!([0, 1, 2].iter().all(|number| seen.contains(&org(*number))), "{seen:?}");
    }

    #[test]
    fn bytes_bound_a_batch_but_never_block_an_event() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(1, SIZE));
        batcher.push(0, org(1), 'a', 60);
        batcher.push(0, org(1), 'b', 60);
        batcher.push(0, org(1), 'c', 1_000);
        let mut taken = || take(&mut batcher, now).into_iter().flat_map(|batch| batch.events).collect::<String>();
        assert_eq!([taken(), taken(), taken(), taken()], ["a", "b", "c", ""]);
    }

    #[test]
    fn a_deferred_organization_waits_and_others_pass() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1, SIZE);
        batcher.defer(batch(org(1), Trigger::Idle, vec![1]), now + Duration::from_secs(1));
        batcher.push(0, org(2), 2, 1);
        assert_eq!(take(&mut batcher, now), [batch(org(2), Trigger::Idle, vec![2])]);
        assert_eq!(take(&mut batcher, now), []);
        assert_eq!(batcher.next_due(now), Some(now + Duration::from_secs(1)));
        assert_eq!(take(&mut batcher, now + Duration::from_secs(1)), [batch(org(1), Trigger::Again, vec![1])]);
        assert_eq!(batcher.waiting(), 0);
    }

    #[test]
    fn the_fullest_partition_leaves_first_and_alone_if_that_is_worthwhile() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(3, SIZE));
        let mut taken = |pushed: &[usize]| -> Vec<_> {
            for &partition in pushed {
                batcher.push(partition, org(1), partition, 1);
            }
            let batches = take(&mut batcher, now);
            batches.into_iter().map(|batch| (batch.partition, batch.events.len())).collect()
        };
        assert_eq!(taken(&[2, 2, 0, 0, 0, 0, 0]), [(0, 3)]);
        assert_eq!(taken(&[2, 1]), [(2, 3)]);
        assert_eq!(taken(&[]), [(0, 2)]);
        assert_eq!(taken(&[2]), [(1, 1), (2, 1)]);
    }

    #[test]
    fn no_partition_is_passed_over_for_ever() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(2, SIZE));
        batcher.push(0, org(0), 0, 1);
        let mut partitions = || -> Vec<_> {
            (0..3).for_each(|event| batcher.push(1, org(1), event, 1));
            take(&mut batcher, now).into_iter().map(|batch| batch.partition).collect()
        };
        assert_eq!([partitions(), partitions(), partitions()], [vec![1], vec![1], vec![0, 1]]);
    }

    #[test]
    fn a_partition_without_an_open_transaction_comes_first() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(2, SIZE));
        (0..6).for_each(|number| batcher.push(0, org(number), number, 1));
        batcher.push(1, org(6), 6, 1);
        let mut partitions = || -> Vec<_> {
            let taken = batcher.take(now, 1, None).map(|taken| taken.batches).unwrap_or_default();
            taken.into_iter().map(|batch| batch.partition).collect()
        };
        assert_eq!([partitions(), partitions()], [vec![0; 5], vec![1, 0]]);
    }

    /// How many events of which partitions the next transaction holds, and what is wanted after it.
    fn take_claimed(batcher: &mut Batcher<usize>, now: Instant, claimed: usize) -> (usize, Vec<usize>, Vec<usize>) {
        let Transaction { hold, wanted, .. } = batcher.take(now, 1, Some(claimed)).unwrap();
        let (events, partitions) = (hold.events, hold.partitions.clone());
        batcher.release(hold);
        (events, partitions, wanted)
    }

    fn push_many(batcher: &mut Batcher<usize>, partition: usize, count: usize) {
        (0..count).for_each(|number| batcher.push(partition, Uuid::from_u128(number as u128), 0, 0));
    }

    /// After so many events a partition is claimed.
    const MANY: usize = 500;
    const HUGE_SIZE: Size = Size { max_transaction_events: MANY, worthwhile: 100, ..SIZE };

    #[test]
    fn a_claimed_partition_leaves_alone_while_others_are_met() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(3, HUGE_SIZE));
        push_many(&mut batcher, 0, 3 * MANY);
        push_many(&mut batcher, 1, MANY);
        assert_eq!(take_claimed(&mut batcher, now, 1), (MANY, vec![0], vec![0, 1]), "nobody was met");
        batcher.met(now);
        assert_eq!(take_claimed(&mut batcher, now, 1), (MANY, vec![1], vec![0, 1]));
        push_many(&mut batcher, 1, FEW);
        assert_eq!(take_claimed(&mut batcher, now, 1), (FEW, vec![1], vec![]), "less is not worth a claim");
        push_many(&mut batcher, 1, FEW - 1);
        assert_eq!(take_claimed(&mut batcher, now, 1).1, [0], "of a few nobody waits for long");
    }

    #[test]
    fn of_a_replica_that_claims_no_other_writer_looks() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(2, HUGE_SIZE));
        let leaves = |batcher: &mut Batcher<_>, partition, at| {
            push_many(batcher, partition, MANY);
            batcher.take(at, 1, None).unwrap()
        };
        batcher.met(now);
        let claims = leaves(&mut batcher, 0, now);
        assert_eq!((claims.wanted.clone(), claims.is_crowded), (vec![0], true));
        batcher.release(claims.hold);
        let claims = leaves(&mut batcher, 0, now);
        (0..MANY).for_each(|number| batcher.push(1, Uuid::from_u128(1 << 64 | number as u128), 0, 0));
        let writes = batcher.take(now + CROWDED, 1, None).unwrap();
        assert_eq!(
            (writes.wanted, writes.is_crowded),
            (vec![], false),
            "it would take that claim for another replica's"
        );
        batcher.release(claims.hold);
        batcher.release(writes.hold);
        let looks = leaves(&mut batcher, 0, now + CROWDED);
        assert_eq!((looks.wanted, looks.is_crowded), (vec![0], false));
        batcher.release(looks.hold);
    }

    #[test]
    fn an_organization_is_in_one_transaction_at_a_time() {
        let now = Instant::now();
        let mut batcher = Batcher::new(2, Size { worthwhile: 9, ..SIZE });
        (0..2).for_each(|event| batcher.push(0, org(1), event, 1));
        batcher.push(1, org(1), 2, 1);
        let first = batcher.take(now, 1, None).unwrap();
        assert_eq!(first.batches.len(), 2, "{first:?}");
        batcher.push(0, org(1), 3, 1);
        batcher.defer(batch(org(1), Trigger::Idle, vec![6]), now);
        let later = now + LONGEST_OF_FEW;
        assert_eq!([batcher.take(now, 1, None), batcher.take(later, 1, None)], [None, None]);
        assert_eq!(batcher.next_due(later), None, "nobody should wake up for what is held");
        batcher.release(first.hold);
        assert_eq!(batcher.next_due(now), Some(now));
        assert_eq!(take(&mut batcher, now), [batch(org(1), Trigger::Again, vec![6, 3])]);
    }

    #[test]
    fn few_wait_while_few_are_written_but_not_long() {
        let (now, mut batcher) = (Instant::now(), Batcher::new(1, LARGE_SIZE));
        let push = |batcher: &mut Batcher<u8>, numbers: Range<u8>| {
            numbers.for_each(|number| batcher.push(0, org(number), number, 1));
        };
        push(&mut batcher, 0..2);
        let first = batcher.take(now, 1, None).unwrap();
        push(&mut batcher, 10..12);
        assert_eq!((batcher.take(now, 1, None), batcher.next_due(now)), (None, Some(now + LONGEST_OF_FEW)));
        let second = batcher.take(now + LONGEST_OF_FEW, 1, None).unwrap();
        push(&mut batcher, 20..30);
        let third = batcher.take(now + LONGEST_OF_FEW, 1, None).unwrap();
        assert_eq!(third.batches.len(), 10, "they are worth a transaction");
        push(&mut batcher, 40..42);
        assert_eq!(batcher.take(now + LONGEST_OF_FEW, 1, None), None);
        for hold in [first.hold, second.hold, third.hold] {
            batcher.release(hold);
        }
        assert_eq!(batcher.take(now + LONGEST_OF_FEW, 1, None).unwrap().batches.len(), 2, "nobody is waited for");
    }

    #[test]
    fn little_waits_while_others_are_written_but_not_long() {
        let now = Instant::now();
        let later = now + LONGEST_GATHERING + LONGER_IF_WRITTEN;
        let mut batcher = Batcher::new(1, LARGE_SIZE);
        let push = |batcher: &mut Batcher<_>, org_number, count| {
            (0..count).for_each(|event| batcher.push(0, org(org_number), event, 1));
        };
        let sizes = |taken: Option<&Transaction<usize>>| taken.map(|taken| taken.batches[0].events.len());
        push(&mut batcher, 1, FEW);
        let few = batcher.take(now, 1, None);
        push(&mut batcher, 2, 10);
        let beside_few = batcher.take(now, 1, None);
        assert_eq!([sizes(few.as_ref()), sizes(beside_few.as_ref())], [Some(FEW), Some(10)]);
        assert_eq!((batcher.take(now, 1, None), batcher.next_due(now)), (None, None), "nothing waits");
        push(&mut batcher, 3, 9);
        assert_eq!((batcher.take(now, 1, None), batcher.next_due(now)), (None, Some(later)));
        push(&mut batcher, 4, 1);
        let enough = batcher.take(now, 1, None);
        assert_eq!(enough.as_ref().map(|taken| taken.batches.len()), Some(2));
        push(&mut batcher, 5, 1);
        assert_eq!(batcher.take(now, 1, None), None);
        let late = batcher.take(later, 1, None);
        assert_eq!(sizes(late.as_ref()), Some(1), "it has waited long enough");
        assert_eq!(batcher.next_due(later), None);
        push(&mut batcher, 6, 1);
        assert_eq!(batcher.take(later, 1, None), None);
        [few, beside_few, enough, late].into_iter().flatten().for_each(|done| batcher.release(done.hold));
        assert_eq!(batcher.take(later + WINDOW, 1, None), None, "many arrived before");
        let calm = batcher.take(later + 2 * WINDOW, 1, None);
        assert_eq!(sizes(calm.as_ref()), Some(1), "nothing is being written, and few arrive");
    }

    #[test]
    fn of_one_partition_more_is_waited_for_while_others_are_written() {
        let now = Instant::now();
        let mut batcher = Batcher::new(3, LARGE_SIZE);
        let push = |batcher: &mut Batcher<_>, partition, org_number, count| {
            (0..count).for_each(|event| batcher.push(partition, org(org_number), event, 1));
        };
        push(&mut batcher, 0, 1, LARGE);
        let open = batcher.take(now, 1, None).unwrap();
        push(&mut batcher, 0, 2, 9);
        assert_eq!(batcher.take(now, 1, None), None);
        assert_eq!(
            batcher.next_due(now),
            Some(now + LONGEST_GATHERING + LONGER_IF_WRITTEN),
            "all is of what is written"
        );
        push(&mut batcher, 0, 2, 11);
        push(&mut batcher, 1, 3, 9);
        push(&mut batcher, 2, 4, 9);
        assert_eq!(batcher.take(now, 1, None), None, "no partition is worth it that is not being written");
        assert_eq!(batcher.next_due(now), Some(now + LONGEST_GATHERING));
        push(&mut batcher, 2, 4, 1);
        assert_eq!(batcher.take(now, 1, None).unwrap().batches[0].partition, 2);
        batcher.release(open.hold);
    }

    #[test]
    fn what_others_hold_is_waited_for_with_the_rest() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1, LARGE_SIZE);
        (0..LARGE + 20).for_each(|event| batcher.push(0, org(1), event, 1));
        let open = batcher.take(now, 1, None).unwrap();
        batcher.push(0, org(2), 0, 1);
        let due = now + LONGEST_GATHERING + LONGER_IF_WRITTEN;
        assert_eq!((batcher.take(now, 1, None), batcher.next_due(now)), (None, Some(due)));
        batcher.release(open.hold);
        assert_eq!(batcher.take(now, 1, None).map(|taken| taken.batches.len()), Some(2));
    }

    #[test]
    fn while_many_arrive_they_gather_but_not_for_long() {
        let size = Size { max_events: 100, max_transaction_events: 100, worthwhile: 40, ..SIZE };
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut batcher = Batcher::new(1, size);
        let mut leave = |milliseconds, count, orgs: u8| {
            (0..count).for_each(|event| batcher.push(0, org(u8::try_from(event).unwrap() % orgs), event, 0));
            let taken = batcher.take(at(milliseconds), 1, None);
            taken.map(|taken| {
                batcher.release(taken.hold);
                taken.batches.iter().map(|batch| batch.events.len()).sum::<usize>()
            })
        };
        assert_eq!(leave(0, 5, 5), Some(5), "nothing is known yet");
        assert_eq!(leave(10, 5, 5), None, "10 in 10 ms: half of what is worthwhile would come in 40");
        assert_eq!(leave(15, 34, 5), None);
        assert_eq!(leave(16, 1, 5), Some(40), "that is worthwhile");
        assert_eq!(leave(20, 19, 5), None);
        assert_eq!(leave(30, 10, 5), None);
        assert_eq!(leave(40, 10, 5), None);
        assert_eq!(leave(60, 0, 5), Some(39), "that was long");
        assert_eq!(leave(70, 20, 1), None);
        assert_eq!(leave(80, 0, 1), None, "one poor window");
        assert_eq!(leave(90, 0, 1), Some(20), "no more arrive");
        assert_eq!(leave(95, 19, 1), Some(19));
        assert_eq!(leave(100, 19, 1), None);
        assert_eq!(leave(101, 1, 1), Some(20), "half is enough of an organization that was alone");
    }

    #[test]
    fn nothing_is_waited_for_when_nothing_more_arrives() {
        let now = Instant::now();
        let size = Size { max_events: 100, max_transaction_events: 100, worthwhile: 90, ..SIZE };
        let mut batcher = Batcher::new(1, size);
        (0..=FEW).for_each(|event| batcher.push(0, org(1), event, 0));
        let open = batcher.take(now, 1, None).unwrap();
        batcher.push(0, org(2), 0, 1);
        assert_eq!(batcher.take(now, 1, None), None);
        batcher.close();
        assert_eq!(batcher.take(now, 1, None).map(|taken| taken.batches.len()), Some(1));
        batcher.release(open.hold);
    }

    #[test]
    fn many_gather_where_many_more_are_waited_for() {
        let now = Instant::now();
        let size = Size { max_events: 100, max_transaction_events: 100, worthwhile: 90, ..SIZE };
        let mut batcher = Batcher::new(2, size);
        let push = |batcher: &mut Batcher<_>, partition, count| {
            (0..count).for_each(|event| batcher.push(partition, org(1), event, 0));
            [batcher.gathers(now), batcher.gathers_many(now)]
        };
        assert_eq!(push(&mut batcher, 0, FEW), [false; 2], "nothing is written");
        assert_eq!(push(&mut batcher, 0, 1), [false; 2]);
        let open = batcher.take(now, 1, None).unwrap();
        assert_eq!(push(&mut batcher, 1, FEW - 1), [true, false], "of few, each counts");
        assert_eq!(push(&mut batcher, 1, 1), [true; 2]);
        assert!(!batcher.gathers_many(now + LONGEST_GATHERING), "they leave");
        assert_eq!(push(&mut batcher, 1, 90 - FEW), [false; 2], "they are worth it");
        batcher.release(open.hold);
    }

    #[test]
    fn transactions_take_turns_after_they_met_another_replica() {
        let now = Instant::now();
        let mut batcher = Batcher::new(1, Size { worthwhile: 1, ..SIZE });
        let leaves = |batcher: &mut Batcher<_>, number, at| {
            batcher.push(0, org(number), number, 1);
            batcher.take(at, 1, None)
        };
        let (one, other) = (leaves(&mut batcher, 1, now).unwrap(), leaves(&mut batcher, 2, now).unwrap());
        batcher.met(now);
        assert_eq!((leaves(&mut batcher, 3, now), batcher.next_due(now)), (None, Some(now + LONGEST_WAIT)));
        batcher.release(one.hold);
        assert_eq!(batcher.take(now, 1, None), None, "one is still open");
        batcher.release(other.hold);
        let alone = batcher.take(now, 1, None).unwrap();
        assert_eq!(leaves(&mut batcher, 4, now), None);
        let late = batcher.take(now + LONGEST_WAIT, 1, None).unwrap();
        assert_eq!(leaves(&mut batcher, 5, now + LONGEST_WAIT), None);
        assert_eq!(batcher.take(now + CROWDED, 1, None).unwrap().batches[0].events, [5], "nobody was met for long");
        batcher.release(alone.hold);
        batcher.release(late.hold);
    }

    #[test]
    fn idle_writers_share_what_waits() {
        let size = Size { max_events: 1000, max_bytes: 1000, max_transaction_events: 1000, worthwhile: 60 };
        let (now, mut batcher) = (Instant::now(), Batcher::new(1, size));
        (0..200).for_each(|event| batcher.push(0, org(event), event, 1));
        let mut taken = |idle| batcher.take(now, idle, None).map_or(0, |taken| taken.batches.len());
        assert_eq!([taken(2), taken(1), taken(1)], [100, 100, 0]);
        (0..200).for_each(|event| batcher.push(0, org(255), event, 0));
        let alone = batcher.take(now, 2, None).map_or(0, |taken| taken.batches[0].events.len());
        assert_eq!(alone, 200, "only one writer can take it");
        (1..=60).for_each(|number| batcher.push(0, Uuid::from_u128(number), 0, 1));
        let few = batcher.take(now, 9, None).map_or(0, |taken| taken.batches.len());
        assert_eq!(few, 60, "too few to share");
    }

    proptest! {
        #[test]
        fn every_event_leaves_once_within_the_bounds(
            pushed in prop::collection::vec((0_usize..3, 0_u8..6, 0_usize..80), 0..200), idle in 1_usize..4, open in 0_usize..4,
            worthwhile in 1_usize..9,
        ) {
            // At one moment: nothing gathers.
            let (now, mut batcher) = (Instant::now(), Batcher::new(3, Size { worthwhile, ..SIZE }));
            for (event, &(partition, number, bytes)) in pushed.iter().enumerate() {
                batcher.push(partition, org(number), event, bytes);
            }
            prop_assert_eq!(batcher.waiting(), pushed.len());
            let (mut left, mut holds) = (Vec::new(), VecDeque::new());
            while batcher.waiting() > 0 || !holds.is_empty() {
                let taken = batcher.take(now, idle, None);
                prop_assert!(taken.is_some() || !holds.is_empty());
                if taken.is_none() || holds.len() >= open {
                    holds.pop_front().into_iter().for_each(|(hold, _)| batcher.release(hold));
                }
                let Some(Transaction { batches, hold, .. }) = taken else { continue };
                let orgs: HashSet<_> = batches.iter().map(|batch| batch.org).collect();
                prop_assert!(holds.iter().all(|(_, held): &(Hold, HashSet<Uuid>)| orgs.is_disjoint(held)));
                holds.push_back((hold, orgs));
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
