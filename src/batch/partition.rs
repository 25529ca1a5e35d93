//! What waits of one partition, and what of it leaves next.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{Batch, Size, Trigger};

#[derive(Debug)]
struct Waiting<E> {
    org: Uuid,
    event: E,
    /// The length of its body.
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Partition<E> {
    number: usize,
    /// What came first is first.
    line: VecDeque<Waiting<E>>,
    /// Transactions with events of this partition.
    pub(super) open: usize,
    /// Transactions that left without any of them since the last one that had some.
    pub(super) passed: usize,
}

/// An organization whose batch takes more.
struct Place {
    /// Where its batch is.
    at: usize,
    /// Bytes that still fit.
    bytes: usize,
}

impl<E> Partition<E> {
    pub(super) const fn new(number: usize) -> Self {
        Self { number, line: VecDeque::new(), open: 0, passed: 0 }
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    pub(super) fn push(&mut self, org: Uuid, event: E, bytes: usize) {
        self.line.push_back(Waiting { org, event, bytes });
    }

    /// Before all others. The lengths no longer matter: what left as a batch once may leave as one again.
    pub(super) fn push_first(&mut self, org: Uuid, events: Vec<E>) {
        for event in events.into_iter().rev() {
            self.line.push_front(Waiting { org, event, bytes: 0 });
        }
    }

    /// Of each event that waits.
    pub(super) fn organizations(&self) -> impl Iterator<Item = Uuid> {
        self.line.iter().map(|waiting| waiting.org)
    }

    /// Takes what came first of the organizations that may leave, each with its trigger, as long as there is room.
    pub(super) fn take(
        &mut self,
        size: Size,
        room: &mut usize,
        may_leave: impl Fn(&Uuid) -> Option<Trigger>,
    ) -> Vec<Batch<E>> {
        let partition = self.number;
        let mut batches: Vec<Batch<E>> = Vec::new();
        let mut places: HashMap<Uuid, Option<Place>> = HashMap::new();
        let mut passed = VecDeque::new();
        while *room > 0 {
            let Some(waiting) = self.line.pop_front() else { break };
            let org = waiting.org;
            let place = places.entry(org).or_insert_with(|| {
                let trigger = may_leave(&org)?;
                batches.push(Batch { partition, org, trigger, events: Vec::new() });
                Some(Place { at: batches.len() - 1, bytes: size.max_bytes })
            });
            if let Some(Place { at, bytes }) = place {
                let batch = &mut batches[*at];
                let fits = batch.events.len() < size.max_events && waiting.bytes <= *bytes || batch.events.is_empty();
                if fits {
                    *bytes = bytes.saturating_sub(waiting.bytes);
                    batch.events.push(waiting.event);
                    *room -= 1;
                    continue;
                }
                batch.fill();
                // Nor may a shorter one pass it.
                *place = None;
            }
            passed.push_back(waiting);
        }
        if *room == 0 && !self.line.is_empty() {
            batches.iter_mut().for_each(Batch::fill);
        }
        passed.append(&mut self.line);
        self.line = passed;
        batches
    }
}

impl<E> Batch<E> {
    /// More waits than it takes.
    fn fill(&mut self) {
        if self.trigger == Trigger::Idle {
            self.trigger = Trigger::Full;
        }
    }
}
