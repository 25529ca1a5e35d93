//! How a command fails: one line of cause, one of remedy, and an exit code.

use std::fmt;

/// What a command prints before it ends with an exit code other than 0.
#[derive(Debug)]
pub struct Failure {
    cause: String,
    remedy: String,
    code: u8,
}

impl Failure {
    /// The work failed: exit code 1.
    pub fn new(cause: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { cause: one_line(&cause), remedy: remedy.into(), code: 1 }
    }

    /// It was asked for wrongly: exit code 2.
    pub fn usage(cause: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(cause, remedy) }
    }

    /// 1 failed, 2 usage.
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\nhelp: {}", self.cause, self.remedy)
    }
}

impl std::error::Error for Failure {}

fn one_line(cause: &impl fmt::Display) -> String {
    cause.to_string().split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A task panicked. What the panic said is left out, since it may quote an event; the log says where it was.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0} died")]
pub struct Died(pub &'static str);

/// Turns errors into failures by adding what to do about them.
pub trait Remedy<T> {
    /// Adds the remedy.
    ///
    /// # Errors
    ///
    /// The failure, where there was an error.
    fn remedy(self, remedy: &str) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> Remedy<T> for Result<T, E> {
    fn remedy(self, remedy: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{:#}", error.into()), remedy))
    }
}
