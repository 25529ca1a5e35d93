//! Between those who read events and the writers: what waits, and who is idle.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ticket::Share;
use crate::batch::{Batch, Batcher, Hold, Transaction};

struct Queue {
    state: Mutex<State>,
    /// Shares of bare updates wait for room at more than this.
    most_waiting: usize,
    /// A writer may find something.
    arrived: Notify,
    /// There may be room.
    left: Notify,
}

struct State {
    batcher: Batcher<Share>,
    entries: usize,
    exits: usize,
    /// Writers that wait.
    idle: usize,
}

/// Where events come in. When all of these are dropped, the writers finish what waits and end.
pub(super) struct Entry(Arc<Queue>);

/// Where a writer takes transactions.
pub(super) struct Exit(Arc<Queue>);

/// A queue for a session with a way out for each writer.
pub(super) fn queue(batcher: Batcher<Share>, most_waiting: usize, writers: usize) -> (Entry, Vec<Exit>) {
    let state = Mutex::new(State { batcher, entries: 1, exits: writers, idle: 0 });
    let queue = Arc::new(Queue { state, most_waiting, arrived: Notify::new(), left: Notify::new() });
    let exits = (0..writers).map(|_| Exit(Arc::clone(&queue))).collect();
    (Entry(queue), exits)
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State>, org: Uuid, share: Share) {
        if state.exits == 0 {
            return;
        }
        let (partition, bytes) = (share.partition(), share.body_bytes());
        state.batcher.push(partition, org, share, bytes);
        // While more gathers, the first one alone wakes a writer, to tell it until when.
        if state.idle > 0 && (state.batcher.waiting() == 1 || !state.batcher.gathers(Instant::now())) {
            self.arrived.notify_one();
        }
    }

    fn take_now(&self, state: &mut State, now: Instant, claimed: Option<usize>) -> Option<Transaction<Share>> {
        let transaction = state.batcher.take(now, state.idle + 1, claimed)?;
        self.left.notify_waiters();
        // What is left, if anything, is perhaps for another.
        if state.idle > 0 && state.batcher.waiting() > 0 {
            self.arrived.notify_one();
        }
        Some(transaction)
    }
}

impl Entry {
    /// Adds a share of a delivery that has no other; the prefetch bounds how many there can be. Where no writer is left,
    /// the session has been given up, and the share with it.
    pub(super) fn push(&self, org: Uuid, share: Share) {
        self.0.push(self.0.state(), org, share);
    }

    /// Whether a writer waits for the next event, rather than for many more.
    pub(super) fn is_waited_for(&self) -> bool {
        let mut state = self.0.state();
        state.idle > 0 && !state.batcher.gathers_many(Instant::now())
    }

    /// Adds one of many shares of a delivery, as soon as there is room.
    pub(super) async fn send(&self, org: Uuid, share: Share) {
        let Self(queue) = self;
        loop {
            let left = queue.left.notified();
            {
                let state = queue.state();
                if state.batcher.waiting() < queue.most_waiting || state.exits == 0 {
                    return queue.push(state, org, share);
                }
            }
            left.await;
        }
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        self.0.state().entries += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.entries -= 1;
        if state.entries == 0 {
            state.batcher.close();
            self.0.arrived.notify_waiters();
        }
    }
}

impl Exit {
    /// The next transaction, if there is one, of the partition that the writer has claimed, if that has any.
    pub(super) fn take_now(&self, claimed: Option<usize>) -> Option<Transaction<Share>> {
        self.0.take_now(&mut self.0.state(), Instant::now(), claimed)
    }

    /// The next transaction, to be given back by [`Self::release`]; `None` when all is done, or when nothing is waited
    /// for any more: `over` ends the wait at once, `abandon` as soon as nothing more comes in.
    pub(super) async fn take(
        &self,
        over: &CancellationToken,
        abandon: &CancellationToken,
    ) -> Option<Transaction<Share>> {
        let Self(queue) = self;
        loop {
            let arrived = queue.arrived.notified();
            let (due, is_open) = {
                let mut state = queue.state();
                let now = Instant::now();
                if let Some(transaction) = queue.take_now(&mut state, now, None) {
                    return Some(transaction);
                }
                let is_open = state.entries > 0;
                if !is_open && state.batcher.waiting() == 0 {
                    return None;
                }
                state.idle += 1;
                (state.batcher.next_due(now).unwrap_or_else(|| now + Duration::from_hours(1)), is_open)
            };
            let is_worth_it = tokio::select! {
                () = arrived => true,
                () = tokio::time::sleep_until(due.into()) => true,
                () = over.cancelled() => false,
                () = abandon.cancelled(), if !is_open => false,
            };
            queue.state().idle -= 1;
            if !is_worth_it {
                return None;
            }
        }
    }

    /// Other replicas write at the same time.
    pub(super) fn met(&self) {
        self.0.state().batcher.met(Instant::now());
    }

    /// Gives back what a transaction held.
    pub(super) fn release(&self, hold: Hold) {
        let mut state = self.0.state();
        state.batcher.release(hold);
        // Others may wait for just these organizations.
        if state.idle > 0 && state.batcher.waiting() > 0 {
            self.0.arrived.notify_one();
        }
    }

    /// Puts a batch back, to leave again no earlier than `not_before`.
    pub(super) fn defer(&self, batch: Batch<Share>, not_before: Instant) {
        self.0.state().batcher.defer(batch, not_before);
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.exits -= 1;
        if state.exits == 0 {
            self.0.left.notify_waiters();
        }
        // Whoever waits for what this one held looks again whether anything is left to wait for.
        self.0.arrived.notify_waiters();
    }
}
