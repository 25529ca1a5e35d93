//! The clock, read in one place; the pure stages get it as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::decode::Seconds;

/// Unix time in whole seconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX)
}
