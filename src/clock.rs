//! The clock, read in one place; the pure stages get it as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::decode::Seconds;

/// Unix time in milliseconds.
pub type Milliseconds = i64;

/// Unix time in whole seconds.
#[must_use]
pub fn now() -> Seconds {
    now_ms() / 1000
}

/// Unix time in milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_ms() -> Milliseconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Milliseconds::try_from(since.as_millis()).unwrap_or(Milliseconds::MAX)
}
