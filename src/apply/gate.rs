use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::MutexGuard;

/// Lanes take turns for so long after one of them met somebody.
const CROWDED: Duration = Duration::from_secs(2);
/// None waits longer for its turn: who is before it may wait for a lock that somebody else keeps.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Lets the lanes of a replica write side by side; one after the other while they meet other replicas' transactions in the
/// same rows, since then to wait for each other, and to do things once more, costs more than it gains.
#[derive(Debug)]
pub(super) struct Gate {
    crowded: Duration,
    met_at: Mutex<Option<Instant>>,
    turn: tokio::sync::Mutex<()>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { crowded: CROWDED, met_at: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl Gate {
    /// Waits for a turn, where there are turns, which lasts until the guard is dropped.
    pub(super) async fn pass(&self) -> Option<MutexGuard<'_, ()>> {
        let met_at = *self.met_at.lock().unwrap_or_else(PoisonError::into_inner);
        if met_at.is_none_or(|time| time.elapsed() >= self.crowded) {
            return None;
        }
        tokio::time::timeout(LONGEST_WAIT, self.turn.lock()).await.ok()
    }

    /// Other replicas write the same rows right now.
    pub(super) fn met(&self) {
        *self.met_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn crowded_for(crowded: Duration) -> Gate {
        let gate = Gate { crowded, ..Gate::default() };
        gate.met();
        gate
    }

    #[tokio::test]
    async fn lanes_that_meet_nobody_write_side_by_side() {
        for gate in [Gate::default(), crowded_for(Duration::ZERO)] {
            let (one, other) = (gate.pass().now_or_never().unwrap(), gate.pass().now_or_never().unwrap());
            assert!(one.is_none() && other.is_none());
        }
    }

    #[tokio::test]
    async fn after_a_meeting_they_take_turns() {
        let gate = crowded_for(Duration::from_hours(1));
        let turn = gate.pass().now_or_never().unwrap();
        assert!(turn.is_some());
        let mut other = Box::pin(gate.pass());
        assert!((&mut other).now_or_never().is_none());
        drop(turn);
        assert!(other.await.is_some());
    }

    #[tokio::test]
    async fn no_turn_is_waited_for_for_ever() {
        let gate = crowded_for(Duration::from_hours(1));
        let _turn = gate.turn.lock().await;
        assert!(gate.pass().await.is_none());
    }
}
