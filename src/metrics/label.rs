use std::marker::PhantomData;

use prometheus::{IntCounter, IntCounterVec};

use crate::{
    batch::Trigger,
    database::FaultKind,
    decode::{Kind, Reason},
    settle::Outcome,
};

/// The values of a label: a closed list.
pub trait Label: Copy + PartialEq + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// As it stands in the metrics.
    fn name(self) -> &'static str;
}

macro_rules! label {
    ($type:ty, $name:ident) => {
        impl Label for $type {
            const ALL: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                self.$name()
            }
        }
    };
}

label!(Kind, name);
label!(Outcome, name);
label!(Reason, code);
label!(Trigger, name);

/// How a transaction ended: committed, or stopped by a fault. After an outage it may be committed all the same.
impl Label for Option<FaultKind> {
    const ALL: &'static [Self] = &[
        None,
        Some(FaultKind::Outage),
        Some(FaultKind::Setup),
        Some(FaultKind::Conflict),
        Some(FaultKind::Timeout),
        Some(FaultKind::Data),
        Some(FaultKind::Unknown),
    ];

    fn name(self) -> &'static str {
        self.map_or("committed", FaultKind::name)
    }
}

/// Why something is done again, or in smaller parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A fault of the database.
    Database(FaultKind),
    /// People of the organization were being merged.
    Merge,
    /// The connection that consumes broke.
    Broker,
    /// A dead letter was not confirmed.
    DeadLetter,
}

impl Label for Cause {
    const ALL: &'static [Self] = &[
        Self::Database(FaultKind::Outage),
        Self::Database(FaultKind::Setup),
        Self::Database(FaultKind::Conflict),
        Self::Database(FaultKind::Timeout),
        Self::Database(FaultKind::Data),
        Self::Database(FaultKind::Unknown),
        Self::Merge,
        Self::Broker,
        Self::DeadLetter,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Database(kind) => kind.name(),
            Self::Merge => "merge",
            Self::Broker => "broker",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What the worker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// `PostgreSQL`.
    Database,
    /// `RabbitMQ`, for taking events.
    Broker,
    /// `RabbitMQ`, for publishing dead letters.
    DeadLetters,
}

impl Label for Dependency {
    const ALL: &'static [Self] = &[Self::Database, Self::Broker, Self::DeadLetters];

    fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Broker => "broker",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// A counter for every value of a label, all there from the start.
#[derive(Debug)]
pub struct By<L> {
    counters: Vec<IntCounter>,
    label: PhantomData<L>,
}

impl<L: Label> By<L> {
    /// Those of a family whose last label this is; the values of the others are given.
    pub(super) fn with(family: &IntCounterVec, others: &[&str]) -> Self {
        let counter = |label: &L| family.with_label_values(&[others, &[label.name()]].concat());
        Self { counters: L::ALL.iter().map(counter).collect(), label: PhantomData }
    }

    /// One more.
    pub fn inc(&self, label: L) {
        self.of(label).inc();
    }

    /// So many.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.of(label).get()
    }

    fn of(&self, label: L) -> &IntCounter {
        let place = L::ALL.iter().position(|known| *known == label).expect("a value that is listed");
        &self.counters[place]
    }
}
