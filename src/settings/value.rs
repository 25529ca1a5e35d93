//! The types that settings have.

use std::{net::SocketAddr, time::Duration};

use toml::Value;

use super::SecretUrl;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// Reads a value; the error completes the sentence "the setting …".
    fn parse(value: &Value) -> Result<Self, String>;

    /// Shows it as one would write it, secrets masked.
    fn show(&self) -> String;
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn parse(value: &Value) -> Result<Self, String> {
                let number = value.as_integer().ok_or("must be a whole number")?;
                Self::try_from(number).map_err(|_| format!("must be 0 to {}", Self::MAX))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integers!(u16, u32, usize);

impl Setting for bool {
    fn parse(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "must be true or false".into())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(number) => Ok(number.to_string()),
            _ => Err("must be text".into()),
        }
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for Duration {
    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(seconds) => {
                u64::try_from(*seconds).map(Self::from_secs).map_err(|_| "must not be negative".into())
            }
            Value::String(text) => {
                humantime::parse_duration(text).map_err(|_| "must be a duration like 500ms, 30s or 1day".into())
            }
            _ => Err("must be a duration like 500ms, 30s or 1day".into()),
        }
    }

    fn show(&self) -> String {
        format!("\"{}\"", humantime::format_duration(*self))
    }
}

impl Setting for SocketAddr {
    fn parse(value: &Value) -> Result<Self, String> {
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| "must be an address like 127.0.0.1:9464".into())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for SecretUrl {
    fn parse(value: &Value) -> Result<Self, String> {
        value.as_str().map(Self::new).ok_or_else(|| "must be a URL".into())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for LogFormat {
    fn parse(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err("must be text or json".into()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "\"text\"".into(),
            Self::Json => "\"json\"".into(),
        }
    }
}
