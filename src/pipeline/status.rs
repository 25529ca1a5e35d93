//! What works, what does not and why, and how much was done: for readiness and the log.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{broker::OtherArguments, database::Fault};

/// Shared by all tasks of a worker.
#[derive(Debug, Default)]
pub struct Status {
    database: Dependency,
    broker: Dependency,
    /// How much was done.
    pub counts: Counts,
}

/// Since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Deliveries that came in.
    pub received: Count,
    /// Deliveries whose rows were committed.
    pub applied: Count,
    /// Deliveries without a fact.
    pub ignored: Count,
    /// Deliveries whose dead letter was confirmed.
    pub dead_lettered: Count,
    /// Dead letters that were written into the table.
    pub archived: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
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

    fn trouble(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.as_deref() {
            None => Some("not connected yet".into()),
            Some("") => None,
            Some(trouble) => Some(trouble.into()),
        }
    }
}

impl Status {
    /// The database answered.
    pub fn database_works(&self) {
        if self.database.note(String::new()) {
            tracing::info!("database works");
        }
    }

    /// The database cannot be used.
    pub fn database_fails(&self, fault: &Fault, retry_in: Duration) {
        if !self.database.note(fault.to_string()) {
            tracing::debug!(error = %fault, ?retry_in, "waiting for the database");
        } else if matches!(fault, Fault::Setup(_)) {
            tracing::error!(error = %fault, ?retry_in, "waiting until the database is set up: see rollcall check");
        } else {
            tracing::warn!(error = %fault, ?retry_in, "waiting for the database");
        }
    }

    /// Events are being consumed.
    pub fn broker_works(&self) {
        if self.broker.note(String::new()) {
            tracing::info!("broker works");
        }
    }

    /// The broker cannot be used.
    pub fn broker_fails(&self, error: &anyhow::Error, retry_in: Duration) {
        let needs_a_person = error.is::<OtherArguments>();
        let error = format!("{error:#}");
        if !self.broker.note(error.clone()) {
            tracing::debug!(error, ?retry_in, "waiting for the broker");
        } else if needs_a_person {
            tracing::error!(error, ?retry_in, "waiting until the broker is set up");
        } else {
            tracing::warn!(error, ?retry_in, "waiting for the broker");
        }
    }

    /// What keeps the worker from working, by dependency; nothing when it is ready.
    pub fn troubles(&self) -> Vec<(&'static str, String)> {
        let named = [("database", &self.database), ("broker", &self.broker)];
        named.into_iter().filter_map(|(name, dependency)| Some((name, dependency.trouble()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_both_work() {
        let status = Status::default();
        assert_eq!(status.troubles().len(), 2);
        status.database_works();
        status.broker_works();
        assert_eq!(status.troubles(), []);
        status.broker_fails(&anyhow::anyhow!("gone"), Duration::ZERO);
        assert_eq!(status.troubles(), [("broker", "gone".to_owned())]);
    }
}
