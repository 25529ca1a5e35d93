//! Waiting between tries: the only file that knows the crate `backoff`.

use std::time::{Duration, Instant};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

use crate::settings::Retry;

/// Growing waits with jitter, without limit in time; they start over after a healthy while.
#[derive(Debug)]
pub struct Backoff {
    waits: ExponentialBackoff,
    /// A wait this long after the last one starts over: "connected" alone is not healthy.
    healthy_after: Duration,
    last: Option<Instant>,
}

impl Backoff {
    /// Starts with `retry.first` and grows to `retry.longest`.
    #[must_use]
    pub fn new(retry: &Retry) -> Self {
        let waits = ExponentialBackoffBuilder::new()
            .with_initial_interval(retry.first)
            .with_max_interval(retry.longest)
            .with_multiplier(2.0)
            .with_randomization_factor(0.3)
            .with_max_elapsed_time(None)
            .build();
        Self { waits, healthy_after: retry.longest * 2, last: None }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > self.healthy_after) {
            self.waits.reset();
        }
        // None only with a limit in time, which there is not.
        let wait = self.waits.next_backoff().unwrap_or(self.waits.max_interval);
        self.last = Some(Instant::now() + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_never_end() {
        let retry = Retry { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
        let mut backoff = Backoff::new(&retry);
        let waits: Vec<_> = (0..50).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= Duration::from_millis(130), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (1400..=2600).contains(&wait.as_millis())), "{waits:?}");
    }
}
