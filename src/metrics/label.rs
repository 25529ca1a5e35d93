use std::marker::PhantomData;

use prometheus::{IntCounter, IntCounterVec};

use crate::{
    batch::Trigger,
    database::Fault,
    decode::{Kind, Reason},
    settle::Outcome,
};

/// The values of a label: a closed list, in the order of the variants.
pub trait Label: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// As it stands in the metrics.
    fn name(self) -> &'static str;

    /// Its place in the list.
    fn place(self) -> usize;
}

macro_rules! label {
    ($type:ty, $name:ident) => {
        impl Label for $type {
            const ALL: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                self.$name()
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

label!(Kind, name);
label!(Outcome, name);
label!(Reason, code);
label!(Trigger, name);

/// Makes an enum of label values with their names.
macro_rules! labels {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Label for $type {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn place(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// How a transaction ended.
    Transaction {
        /// What it wrote is durable.
        Committed = "committed",
        /// The database could not be used; perhaps it was committed all the same.
        Outage = "outage",
        /// Schema, rights or configuration are wrong.
        Setup = "setup",
        /// Another transaction was in the way.
        Conflict = "conflict",
        /// It took too long.
        Timeout = "timeout",
        /// The database rejected the data.
        Data = "data",
        /// None of these.
        Unknown = "unknown",
    }
}

labels! {
    /// Why something is done again, or in smaller parts.
    Cause {
        /// The database could not be used.
        Outage = "outage",
        /// Schema, rights or configuration are wrong.
        Setup = "setup",
        /// Another transaction was in the way.
        Conflict = "conflict",
        /// It took too long.
        Timeout = "timeout",
        /// The database rejected the data of some event.
        Data = "data",
        /// A fault of unknown kind.
        Unknown = "unknown",
        /// People of the organization were being merged.
        Merge = "merge",
        /// The connection that consumes broke.
        Broker = "broker",
        /// A dead letter was not confirmed.
        DeadLetter = "dead_letter",
    }
}

labels! {
    /// What the worker needs.
    Dependency {
        /// `PostgreSQL`.
        Database = "database",
        /// `RabbitMQ`, for taking events.
        Broker = "broker",
        /// `RabbitMQ`, for publishing dead letters.
        DeadLetters = "dead_letters",
    }
}

impl From<&Fault> for Transaction {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Outage(_) => Self::Outage,
            Fault::Setup(_) => Self::Setup,
            Fault::Conflict(_) => Self::Conflict,
            Fault::Timeout(_) => Self::Timeout,
            Fault::Data(_) => Self::Data,
            Fault::Unknown(_) => Self::Unknown,
        }
    }
}

impl From<&Fault> for Cause {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Outage(_) => Self::Outage,
            Fault::Setup(_) => Self::Setup,
            Fault::Conflict(_) => Self::Conflict,
            Fault::Timeout(_) => Self::Timeout,
            Fault::Data(_) => Self::Data,
            Fault::Unknown(_) => Self::Unknown,
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
        self.counters[label.place()].inc();
    }

    /// So many.
    #[must_use]
    pub fn get(&self, label: L) -> u64 {
        self.counters[label.place()].get()
    }

    /// So many of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.counters.iter().map(IntCounter::get).sum()
    }
}
