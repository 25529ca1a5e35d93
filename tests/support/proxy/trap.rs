use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use super::{Action, Point};

/// An action that waits for its point.
#[derive(Debug, Clone)]
pub struct Trap(CancellationToken);

impl Trap {
    /// Whether the action has happened; one that takes time, whether it has begun.
    pub fn has_sprung(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the action has happened; one that takes time, until it has begun.
    pub async fn sprung(&self) {
        self.0.cancelled().await;
    }

    pub(super) fn spring(&self) {
        self.0.cancel();
    }
}

/// All traps of a proxy, and how often each point was met.
#[derive(Default)]
pub(super) struct Traps(Mutex<State>);

#[derive(Default)]
struct State {
    seen: HashMap<Point, u64>,
    forwarded: HashMap<Point, Instant>,
    armed: Vec<Armed>,
}

struct Armed {
    point: Point,
    /// The point's count at which it springs.
    due: u64,
    action: Action,
    trap: Trap,
}

impl Traps {
    pub fn arm(&self, point: Point, kth: u32, action: Action) -> Trap {
        assert!(kth > 0, "the next time is the first");
        let mut state = self.state();
        let due = state.seen.get(&point).copied().unwrap_or(0) + u64::from(kth);
        let trap = Trap(CancellationToken::new());
        state.armed.push(Armed { point, due, action, trap: trap.clone() });
        trap
    }

    /// Counts a point, and takes out the trap that is due.
    pub fn meet(&self, point: Point) -> Option<(Action, Trap)> {
        let mut state = self.state();
        let count = state.seen.entry(point).or_default();
        *count += 1;
        let count = *count;
        let due = state.armed.iter().position(|armed| armed.point == point && armed.due <= count)?;
        let armed = state.armed.remove(due);
        Some((armed.action, armed.trap))
    }

    /// Notes that points are forwarded now.
    pub fn forward(&self, points: &[Point]) {
        if !points.is_empty() {
            let now = Instant::now();
            self.state().forwarded.extend(points.iter().map(|point| (*point, now)));
        }
    }

    pub fn seen(&self, point: Point) -> u64 {
        self.state().seen.get(&point).copied().unwrap_or(0)
    }

    pub fn last_seen(&self, point: Point) -> Option<Instant> {
        self.state().forwarded.get(&point).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}
