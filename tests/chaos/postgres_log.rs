//! What PostgreSQL logs.

use std::path::PathBuf;

use crate::support::postgres_log;

/// The log of the harness's own PostgreSQL, and of its standby, from some moment on.
pub struct PostgresLog {
    path: PathBuf,
    start: u64,
}

impl PostgresLog {
    /// What is logged from now on; `None` where the log of a named server cannot be read.
    pub fn from_now() -> Option<Self> {
        let path = postgres_log()?;
        let start = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Some(Self { path, start })
    }

    /// Errors with one of these codes in a database.
    pub fn errors(&self, database: &str, codes: &[&str]) -> Vec<String> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        let start = usize::try_from(self.start).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(start..).unwrap_or_default());
        let is_meant = |line: &&str| {
            let is_error = ["ERROR:", "FATAL:"].iter().any(|level| line.contains(level));
            is_error && line.contains(database) && codes.iter().any(|code| line.contains(&format!(" {code} ")))
        };
        text.lines().filter(is_meant).map(str::to_owned).collect()
    }
}
