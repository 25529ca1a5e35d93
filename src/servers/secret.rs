//! Passwords that do not show up where nobody looks for them.

use std::fmt;

use uuid::Uuid;

/// A random password; formatting it for debugging shows nothing.
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Blanks the password wherever `text` repeats it.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn password_shows_neither_in_debug_nor_in_redacted_text() {
        let secret = Secret::random();
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(secret.redact(&format!("pass = {}", secret.expose())), "pass = [redacted]");
    }
}
