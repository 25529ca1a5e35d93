//! What is measured.

use std::{path::Path, time::Duration};

use crate::options::Options;

/// A load, the settings of the worker, and what is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub measure: Measure,
    /// Where the events are, when they are not generated; what is said of organizations to `span` is of no concern then.
    pub folder: Option<&'static Path>,
    /// Organizations.
    pub orgs: usize,
    /// Chats of each.
    pub chats: usize,
    /// People of each.
    pub people: u64,
    /// Share of events that most often are of the largest organizations.
    pub uneven: f64,
    /// Share of events that come a second time.
    pub redelivered: f64,
    /// Seconds from the first event to the last, as Telegram dates them.
    pub span: i64,
    /// Settings of the worker and, as far as they concern them, of the limits.
    pub settings: &'static [&'static str],
    pub replicas: usize,
    /// To the database, each way.
    pub latency: Duration,
    /// Whether `activity_events` is full of other organizations' rows.
    pub is_preloaded: bool,
    /// The scenarios that its events per second are compared with, round by round.
    pub compared_with: &'static [&'static str],
    /// Whether it is measured when nothing was chosen.
    pub is_quick: bool,
}

/// How long a rate is steady.
const STEADY_SECONDS: u64 = 20;

impl Scenario {
    /// Events of the folder, compared with those of others.
    pub fn of_folder(folder: &'static Path, compared_with: &'static [&'static str]) -> Option<Self> {
        let name = folder.file_name()?.to_str()?;
        Some(Self {
            name,
            about: "events of a folder, one replica, default settings",
            folder: Some(folder),
            compared_with,
            ..BASE
        })
    }

    /// How many events a run has.
    pub fn events(&self, options: &Options) -> u64 {
        match self.measure {
            Measure::Drain | Measure::Again => options.events,
            Measure::Latency | Measure::Takeover => u64::from(options.rate) * STEADY_SECONDS,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Works off what waits.
    Drain,
    /// Works off what waits, and then all of it once more.
    Again,
    /// From publish to ack, at a steady rate.
    Latency,
    /// How long partitions take to change hands.
    Takeover,
}

const BASE_NAME: &str = "orgs-100";
const UNEVEN_NAME: &str = "orgs-100-uneven";
const WIDE_NAME: &str = "orgs-100-wide";
const DAYS_NAME: &str = "orgs-100-days";

/// As long as a queue grows while nobody consumes.
const HOUR: i64 = 3600;
const THREE_DAYS: i64 = 3 * 24 * HOUR;

/// The load and the settings that all others differ from in one thing.
const BASE: Scenario = Scenario {
    name: BASE_NAME,
    about: "100 organizations of 3 chats and 250 people each, 5 % redelivered, one replica, default settings",
    measure: Measure::Drain,
    folder: None,
    orgs: 100,
    chats: 3,
    people: 250,
    uneven: 0.0,
    redelivered: 0.05,
    span: HOUR,
    settings: &[],
    replicas: 1,
    latency: Duration::ZERO,
    is_preloaded: false,
    compared_with: &[BASE_NAME],
    is_quick: false,
};

const FAR: &[&str] = &["database.writers=1", "batch.max_events=50", "batch.max_transaction_events=50"];

pub const ALL: &[Scenario] = &[
    Scenario { is_quick: true, compared_with: &[], ..BASE },
    Scenario { name: "orgs-1", about: "1 organization", orgs: 1, ..BASE },
    Scenario {
        name: WIDE_NAME,
        about: "100 organizations that have as many chats and people in all as 10,000: most events are somebody's first",
        chats: 300,
        people: 25_000,
        ..BASE
    },
    Scenario {
        name: "orgs-10000",
        about: "10,000 organizations: most events are somebody's first",
        orgs: 10_000,
        compared_with: &[BASE_NAME, WIDE_NAME],
        is_quick: true,
        ..BASE
    },
    Scenario {
        name: "orgs-10000-few",
        about: "10,000 organizations of 3 people each, so that there are about as many people as in orgs-100",
        orgs: 10_000,
        people: 3,
        ..BASE
    },
    Scenario {
        name: UNEVEN_NAME,
        about: "100 organizations of uneven size: the largest has 40 % of the events, the next ten have 27 %",
        uneven: 0.7,
        ..BASE
    },
    Scenario {
        name: "orgs-10000-uneven",
        about: "10,000 organizations as uneven: 30 % of the events are of any",
        orgs: 10_000,
        uneven: 0.7,
        compared_with: &[UNEVEN_NAME, BASE_NAME],
        ..BASE
    },
    Scenario {
        name: DAYS_NAME,
        about: "events of three days instead of an hour: more days of chats, other names each day",
        span: THREE_DAYS,
        ..BASE
    },
    Scenario {
        name: "orgs-10000-few-days",
        about: "10,000 organizations of 3 people each, events of three days: most are a chat's first of a day",
        orgs: 10_000,
        people: 3,
        span: THREE_DAYS,
        compared_with: &[DAYS_NAME],
        ..BASE
    },
    Scenario { name: "redelivered-10", about: "10 % redelivered", redelivered: 0.1, ..BASE },
    Scenario {
        name: "redelivered-100",
        about: "everything was applied before",
        measure: Measure::Again,
        is_quick: true,
        ..BASE
    },
    Scenario { name: "preload", about: "--preload rows of activity_events before", is_preloaded: true, ..BASE },
    Scenario { name: "replicas-2", about: "2 replicas", replicas: 2, ..BASE },
    Scenario { name: "replicas-4", about: "4 replicas", replicas: 4, ..BASE },
    Scenario { name: "partitions-1", about: "1 queue", settings: &["broker.partitions=1"], ..BASE },
    Scenario { name: "partitions-8", about: "8 queues", settings: &["broker.partitions=8"], ..BASE },
    Scenario {
        name: "batch-100",
        about: "at most 100 events a transaction",
        settings: &["batch.max_events=100", "batch.max_transaction_events=100"],
        ..BASE
    },
    // What is held decides how full a transaction gets.
    Scenario {
        name: "batch-500",
        about: "at most 500 events a transaction, prefetch 500",
        settings: &["broker.prefetch=500", "batch.max_transaction_events=500"],
        ..BASE
    },
    Scenario {
        name: "batch-2000",
        about: "at most 2000 events a transaction and of an organization, prefetch 2000",
        settings: &["broker.prefetch=2000", "batch.max_events=2000", "batch.max_transaction_events=2000"],
        ..BASE
    },
    Scenario { name: "text-off", about: "texts are not kept", settings: &["limits.store_text=false"], ..BASE },
    Scenario {
        name: "latency-5ms",
        about: "5 ms to the database, each way",
        latency: Duration::from_millis(5),
        ..BASE
    },
    Scenario {
        name: "latency-5ms-replicas-4",
        about: "5 ms to the database, each way, 4 replicas",
        latency: Duration::from_millis(5),
        replicas: 4,
        compared_with: &["latency-5ms"],
        ..BASE
    },
    // One replica waits for the network most of the time, and not for the cores.
    Scenario {
        name: "far",
        about: "5 ms to the database, each way, one writer, at most 50 events a transaction",
        latency: Duration::from_millis(5),
        settings: FAR,
        ..BASE
    },
    Scenario {
        name: "far-replicas-4",
        about: "5 ms to the database, each way, 4 replicas of one writer, at most 50 events a transaction",
        latency: Duration::from_millis(5),
        settings: FAR,
        replicas: 4,
        compared_with: &["far"],
        ..BASE
    },
    Scenario {
        name: "steady",
        about: "publish to ack at --rate events a second",
        measure: Measure::Latency,
        redelivered: 0.0,
        is_quick: true,
        ..BASE
    },
    Scenario {
        name: "takeover",
        about: "SIGKILL of the preferred replica, and its return, at --rate",
        measure: Measure::Takeover,
        redelivered: 0.0,
        replicas: 2,
        is_quick: true,
        ..BASE
    },
];
