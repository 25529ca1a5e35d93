//! What works, what does not and why, and how much was done: for readiness, metrics and the log.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use crate::{
    broker::OtherArguments,
    consume::LongHeaders,
    database::Fault,
    metrics::{self, Cause, Metrics},
};

/// Shared by all tasks of a worker.
#[derive(Debug, Default)]
pub struct Status {
    /// As those see it that read and write rows.
    database: Dependency,
    /// As the watch sees it, which asks when nobody else does.
    database_watch: Dependency,
    broker: Dependency,
    dead_letters: Dependency,
    losses: AtomicU64,
    /// Cancelled when events come in for the first time.
    begun: CancellationToken,
    log: Option<ErrorCounter>,
    /// What is counted and measured.
    pub metrics: Metrics,
}

/// Why a dependency cannot be used; `None` before it was first used, then the trouble, empty if there is none.
#[derive(Debug, Default)]
struct Dependency(Mutex<Option<String>>);

impl Dependency {
    /// Notes the state and returns whether it is news.
    fn note(&self, trouble: String) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = state.as_ref() != Some(&trouble);
        *state = Some(trouble);
        is_news
    }

    /// `None` where there is none, or nothing was tried.
    fn trouble(&self) -> Option<String> {
        self.state().filter(|trouble| !trouble.is_empty())
    }

    fn state(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What readiness says of a dependency: nothing, or why it cannot be used.
pub type Trouble = Option<String>;

/// The state of all dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Rows can be read and written.
    pub database: Trouble,
    /// Events come in.
    pub broker: Trouble,
    /// Dead letters can be published. Good events go on without.
    pub dead_letters: Trouble,
}

impl Readiness {
    /// Whether the worker works.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.database.is_none() && self.broker.is_none()
    }
}

impl Status {
    /// Nothing works yet; `log` counts the lines that were dropped.
    #[must_use]
    pub fn new(log: ErrorCounter) -> Self {
        Self { log: Some(log), ..Self::default() }
    }

    /// The database answered one that reads or writes rows.
    pub fn database_works(&self) {
        if self.database.note(String::new()) {
            tracing::info!("database works");
        }
    }

    /// The database cannot be used; the same is tried again.
    pub fn database_fails(&self, fault: &Fault, retry_in: Duration) {
        self.metrics.retries.inc(Cause::Database(fault.kind()));
        if !self.database.note(fault.to_string()) {
            tracing::debug!(error = %fault, ?retry_in, "waiting for the database");
        } else if matches!(fault, Fault::Setup(_)) {
            tracing::error!(error = %fault, ?retry_in, "waiting until the database is set up: see rollcall check");
        } else {
            tracing::warn!(error = %fault, ?retry_in, "waiting for the database");
        }
    }

    /// What the watch of the database found out.
    pub fn database_watched(&self, found: Result<(), &Fault>) {
        let is_news = self.database_watch.note(found.map_or_else(ToString::to_string, |()| String::new()));
        match found {
            Err(fault) if is_news => tracing::warn!(error = %fault, "the database does not answer"),
            _ => {}
        }
    }

    /// Events are being consumed.
    pub fn broker_works(&self) {
        self.begun.cancel();
        if self.broker.note(String::new()) {
            tracing::info!("broker works");
        }
    }

    /// Waits until events come in, or for a second: what no event waits for should not hold up the first ones.
    pub async fn begun(&self) {
        // In an outage it begins all the same.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.begun.cancelled()).await;
    }

    /// The broker cannot be used.
    pub fn broker_fails(&self, error: &anyhow::Error, retry_in: Duration) {
        self.metrics.retries.inc(Cause::Broker);
        let needs_a_person = error.is::<OtherArguments>() || error.is::<LongHeaders>();
        let error = format!("{error:#}");
        if !self.broker.note(error.clone()) {
            tracing::debug!(error, ?retry_in, "waiting for the broker");
        } else if needs_a_person {
            tracing::error!(error, ?retry_in, "waiting until the broker is set up");
        } else {
            tracing::warn!(error, ?retry_in, "waiting for the broker");
        }
    }

    /// The dead queue could not be consumed any more: perhaps it was deleted, and is declared again next.
    pub fn dead_queue_is_lost(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was. A channel that published to a queue from before must not go on: what it publishes to the
    /// new one was seen to be confirmed and not kept.
    pub fn dead_queue_losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Dead letters were published.
    pub fn dead_letters_work(&self) {
        if self.dead_letters.note(String::new()) {
            tracing::info!("dead letters are published");
        }
    }

    /// Dead letters cannot be published.
    pub fn dead_letters_fail(&self, error: &str, letters: usize, retry_in: Duration) {
        self.metrics.retries.inc(Cause::DeadLetter);
        if self.dead_letters.note(error.to_owned()) {
            tracing::warn!(error, letters, ?retry_in, "dead letters wait for the broker");
        } else {
            tracing::debug!(error, letters, ?retry_in, "dead letters wait for the broker");
        }
    }

    /// What works and what does not.
    pub fn readiness(&self) -> Readiness {
        let needed = |dependency: &Dependency| match dependency.state() {
            None => Some("not connected yet".to_owned()),
            Some(trouble) => Some(trouble).filter(|trouble| !trouble.is_empty()),
        };
        Readiness {
            database: needed(&self.database).or_else(|| self.database_watch.trouble()),
            broker: needed(&self.broker),
            dead_letters: self.dead_letters.trouble(),
        }
    }

    /// All metrics as text.
    pub fn metrics_text(&self) -> String {
        let Readiness { database, broker, dead_letters } = self.readiness();
        self.metrics.dependency(metrics::Dependency::Database, database.is_none());
        self.metrics.dependency(metrics::Dependency::Broker, broker.is_none());
        self.metrics.dependency(metrics::Dependency::DeadLetters, dead_letters.is_none());
        self.metrics
            .dropped_lines
            .set(self.log.as_ref().map_or(0, |log| i64::try_from(log.dropped_lines()).unwrap_or(i64::MAX)));
        self.metrics.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Fault {
        Fault::Outage("gone".into())
    }

    #[test]
    fn ready_means_that_database_and_broker_work() {
        let status = Status::default();
        assert!(!status.readiness().is_ready());
        status.database_works();
        status.broker_works();
        assert!(status.readiness().is_ready());
        status.broker_fails(&anyhow::anyhow!("gone"), Duration::ZERO);
        assert_eq!(status.readiness().broker, Some("gone".into()));
        assert!(!status.readiness().is_ready());
    }

    #[test]
    fn each_view_of_the_database_has_its_own_trouble() {
        let status = Status::default();
        status.broker_works();
        status.database_fails(&gone(), Duration::ZERO);
        status.database_watched(Ok(()));
        assert!(!status.readiness().is_ready(), "who writes rows still waits");
        status.database_works();
        status.database_watched(Err(&gone()));
        assert!(!status.readiness().is_ready(), "nobody writes, and nobody could");
        status.database_watched(Ok(()));
        assert!(status.readiness().is_ready());
    }

    #[test]
    fn dead_letters_that_wait_hold_up_nothing() {
        let status = Status::default();
        status.database_works();
        status.broker_works();
        status.dead_letters_fail("blocked", 1, Duration::ZERO);
        assert!(status.readiness().is_ready());
        assert_eq!(status.readiness().dead_letters, Some("blocked".into()));
        assert!(status.metrics_text().contains("rollcall_dependency_up{dependency=\"dead_letters\"} 0"));
    }
}
