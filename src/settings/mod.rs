//! Settings: the defaults compiled in, then a file, then the environment, then flags.
//!
//! Unknown keys are refused, and all faults are found at once, not one per start.

mod secret;
mod sources;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use secret::SecretUrl;
pub use sources::{Fault, Faults, Sources};
pub use value::LogFormat;

use crate::decode;
use sources::Merged;

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The most that `broker.partitions` can be.
pub const MAX_PARTITIONS: u16 = 256;

/// The file that is read when no other is named, if it is there.
pub const DEFAULT_FILE: &str = "config/rollcall.toml";

macro_rules! sections {
    ($($(#[$section_doc:meta])* $section:ident: $Section:ident { $($(#[$doc:meta])* $key:ident: $type:ty,)* })*) => {
        /// All settings; `config/default.toml` explains each.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $($(#[$section_doc])* pub $section: $Section,)*
        }

        $(
            $(#[$section_doc])*
            #[derive(Debug, Clone)]
            pub struct $Section {
                $($(#[$doc])* pub $key: $type,)*
            }
        )*

        impl Settings {
            fn read(merged: &Merged, faults: &mut Vec<Fault>) -> Self {
                Self { $($section: $Section { $($key: merged.get(stringify!($section), stringify!($key), faults),)* },)* }
            }

            /// Every setting with its effective value, secrets masked, in the order of the defaults.
            #[must_use]
            pub fn shown(&self) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
                vec![$((stringify!($section), vec![$((stringify!($key), value::Setting::show(&self.$section.$key)),)*]),)*]
            }
        }
    };
}

sections! {
    /// Where the rows are.
    database: Database {
        /// Empty where none was given.
        url: SecretUrl,
        /// Connections that write.
        writers: usize,
        /// For opening a connection.
        connect_timeout: Duration,
        /// On the server, for a statement.
        statement_timeout: Duration,
        /// On the server, for a lock.
        lock_timeout: Duration,
        /// In the worker, for a whole transaction.
        transaction_timeout: Duration,
        /// Between two looks at the database for readiness.
        watch_interval: Duration,
    }
    /// Where the events come from.
    broker: Broker {
        /// Empty where none was given.
        url: SecretUrl,
        /// Of the management API; empty where none was given.
        management_url: SecretUrl,
        /// Of all exchanges and queues.
        prefix: String,
        /// Number of queues.
        partitions: u16,
        /// Unsettled deliveries of each partition.
        prefetch: u16,
        /// For opening a connection, and for each step until it can be used.
        connect_timeout: Duration,
        /// For a publisher confirm.
        confirm_timeout: Duration,
    }
    /// Who this process is.
    replica: Replica {
        /// Random when empty.
        name: String,
    }
    /// How much is applied at once.
    batch: Batch {
        /// Events of one organization.
        max_events: usize,
        /// Body bytes of one organization's events.
        max_bytes: usize,
        /// Events of a transaction.
        max_transaction_events: usize,
    }
    /// What an event may be.
    limits: Limits {
        /// Longest body.
        max_body_bytes: usize,
        /// How far ahead a date may be.
        max_clock_skew: Duration,
        /// Redeliveries before an event is quarantined.
        max_redeliveries: u32,
        /// Redeliveries after which an event is looked into alone.
        careful_after: u32,
        /// Tries of an event with a fault of unknown kind.
        max_attempts: u32,
        /// Whether texts are kept.
        store_text: bool,
    }
    /// What people look after.
    dead_letters: DeadLetters {
        /// Letters that were resolved longer ago are deleted.
        keep: Duration,
        /// Between two looks for those.
        sweep_interval: Duration,
    }
    /// How long to wait between tries.
    retry: Retry {
        /// The first wait.
        first: Duration,
        /// The longest wait.
        longest: Duration,
    }
    /// How to end.
    shutdown: Shutdown {
        /// Time to finish.
        grace: Duration,
    }
    /// The port for probes.
    http: Http {
        /// Where it listens.
        listen: SocketAddr,
    }
    /// Logging.
    log: Log {
        /// As in `RUST_LOG`.
        filter: String,
        /// Text or JSON.
        format: LogFormat,
    }
}

impl From<&Limits> for decode::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits { max_body_bytes, max_clock_skew, store_text, .. } = *limits;
        Self { max_body_bytes, max_clock_skew, store_text }
    }
}

impl Settings {
    /// Reads the sources over the defaults.
    ///
    /// # Errors
    ///
    /// All faults of all sources.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let (merged, mut faults) = Merged::read(sources);
        let settings = Self::read(&merged, &mut faults);
        // Rules between settings would only confuse where one of them could not be read.
        if faults.is_empty() {
            settings.check(&merged, &mut faults);
        }
        if faults.is_empty() { Ok(settings) } else { Err(Faults(faults)) }
    }

    /// The file that is read, named or not.
    #[must_use]
    pub fn file(named: Option<&PathBuf>) -> Option<PathBuf> {
        named.cloned().or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists()))
    }

    fn check(&self, merged: &Merged, faults: &mut Vec<Fault>) {
        let Self { database, broker, replica, batch, limits, retry, .. } = self;
        let mut rule = |holds: bool, section, key, problem: &str| {
            if !holds {
                faults.push(merged.fault(section, key, problem));
            }
        };
        rule((1..=64).contains(&database.writers), "database", "writers", "must be 1 to 64");
        rule(
            database.url.is_empty() || database.url.has_scheme(&["postgres", "postgresql"]),
            "database",
            "url",
            "must begin with postgres://",
        );
        rule(
            broker.url.is_empty() || broker.url.has_scheme(&["amqp", "amqps"]),
            "broker",
            "url",
            "must begin with amqp:// or amqps://",
        );
        rule(
            broker.management_url.is_empty() || broker.management_url.has_scheme(&["http", "https"]),
            "broker",
            "management_url",
            "must begin with http:// or https://",
        );
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_prefix = (1..=100).contains(&broker.prefix.len()) && broker.prefix.chars().all(is_plain);
        rule(is_prefix, "broker", "prefix", "must be 1 to 100 letters, digits, dots, dashes or underscores");
        rule(replica.name.len() <= 100, "replica", "name", "must be at most 100 bytes");
        rule((1..=MAX_PARTITIONS).contains(&broker.partitions), "broker", "partitions", "must be 1 to 256");
        // RabbitMQ takes 0 as no limit at all, and quorum queues cap at 2000
        rule((1..=2000).contains(&broker.prefetch), "broker", "prefetch", "must be 1 to 2000");
        rule(batch.max_events >= 1, "batch", "max_events", "must be at least 1");
        rule(batch.max_transaction_events >= 1, "batch", "max_transaction_events", "must be at least 1");
        rule(
            (1024..=128 << 20).contains(&limits.max_body_bytes),
            "limits",
            "max_body_bytes",
            "must be 1024 to 134217728",
        );
        rule(batch.max_bytes >= 1, "batch", "max_bytes", "must be at least 1");
        rule(limits.max_attempts >= 1, "limits", "max_attempts", "must be at least 1");
        rule(limits.careful_after >= 1, "limits", "careful_after", "must be at least 1");
        rule(limits.max_redeliveries >= 1, "limits", "max_redeliveries", "must be at least 1");
        rule(!retry.first.is_zero(), "retry", "first", "must be more than nothing");
        rule(retry.longest >= retry.first, "retry", "longest", "must be at least retry.first");
        let problem = "must be longer than database.statement_timeout";
        rule(database.transaction_timeout > database.statement_timeout, "database", "transaction_timeout", problem);
        rule(!database.statement_timeout.is_zero(), "database", "statement_timeout", "must be more than nothing");
        rule(!database.lock_timeout.is_zero(), "database", "lock_timeout", "must be more than nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Settings, Faults> {
        let pairs = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Settings::load(&Sources {
            file: Some((PathBuf::from("rollcall.toml"), file.to_owned())),
            environment: pairs.collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        })
    }

    #[test]
    fn later_sources_win() {
        let settings = load(
            "[broker]\nprefetch = 600\nprefix = 'a'",
            &[("ROLLCALL_BROKER__PREFETCH", "700"), ("DATABASE_URL", "postgres://h/d")],
            &["broker.prefetch=800"],
        );
        let settings = settings.unwrap();
        assert_eq!((settings.broker.prefetch, settings.broker.prefix.as_str()), (800, "a"));
        assert_eq!(settings.database.url.expose(), "postgres://h/d");
        assert_eq!(settings.limits.max_clock_skew, Duration::from_hours(24));
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = load(
            "[broker]\nprefetch = 'many'\nprefetsch = 1\n[brocker]\nx = 1",
            &[("ROLLCALL_LIMITS__STORE_TEXT", "maybe"), ("ROLLCALL_LIMITS__NOPE", "1")],
            &["http.listen=nowhere"],
        );
        let faults = faults.unwrap_err().to_string();
        for part in
            ["broker.prefetch", "broker.prefetsch", "brocker", "limits.store_text", "limits.nope", "http.listen"]
        {
            assert!(faults.contains(part), "{part} is not in: {faults}");
        }
        assert!(!faults.contains('\n'));
    }

    #[test]
    fn secrets_are_masked() {
        let settings = load("", &[("AMQP_URL", "amqp://me:CANARY@host:5672/v")], &[]).unwrap();
        assert!(!format!("{settings:?}").contains("CANARY"));
        let shown = format!("{:?}", settings.shown());
        assert!(!shown.contains("CANARY") && shown.contains("amqp://me:***@host:5672/v"), "{shown}");
    }

    #[test]
    fn wrong_urls_are_not_repeated() {
        let faults = load("", &[("AMQP_URL", "ampq://me:CANARY@host")], &[]).unwrap_err();
        assert!(!faults.to_string().contains("CANARY"), "{faults}");
    }
}
