//! Metrics: what is counted and measured, for Prometheus. `docs/metrics.md` explains each.

mod flight;
mod label;

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

pub use flight::{Held, InFlight};
pub use label::{By, Cause, Dependency, Label};

use crate::{
    batch::Trigger,
    database::FaultKind,
    decode::{Kind, Reason},
    settle::Outcome,
};

/// Of what Prometheus reads as text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// From a millisecond to an hour.
const SECONDS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];
/// From a second to a week: Telegram keeps updates for a day, and files are published later.
const LONG_SECONDS: [f64; 12] =
    [1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0];
const EVENTS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0];

/// All of them, shared by all tasks of a worker. No label ever holds what came in an event.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    deliveries: IntCounterVec,
    /// Settled events; counted when it is decided, before the ack.
    events: Vec<By<Outcome>>,
    /// Deliveries whose ack was sent.
    pub acked: IntCounter,
    /// Deliveries that went back to the broker with their channel.
    pub returned: IntCounter,
    /// Deliveries that some stage holds.
    pub in_flight: InFlight,
    balance: IntGauge,
    /// Confirmed dead letters.
    pub dead_letters: By<Reason>,
    /// Dead letters that were written into the table.
    pub archived: IntCounter,
    /// Letters that were resolved long ago, and deleted.
    pub expired: IntCounter,
    /// Redelivered so often that they were handled alone.
    pub suspects: IntCounter,
    /// Batches that left for the database, by why they did.
    pub batches: By<Trigger>,
    /// Events of a batch.
    pub batch_events: Histogram,
    /// Transactions, by how they ended.
    pub transactions: By<Option<FaultKind>>,
    /// Of those that were committed, those that met transactions of other replicas in the same rows.
    pub met: IntCounter,
    /// Of those that were committed, those that found all that they should write.
    pub known: IntCounter,
    /// From the first statement to the answer to the commit, or to the error.
    pub transaction_seconds: Histogram,
    /// What is done again after a wait, or in smaller parts.
    pub retries: By<Cause>,
    /// From publishing, where the message says when that was, to the commit.
    pub publish_to_commit: Histogram,
    /// From Telegram's date to the commit.
    pub telegram_to_commit: Histogram,
    /// Lines of the log that nobody read in time.
    pub dropped_lines: IntGauge,
    /// Queues that events are consumed from.
    pub partitions: IntGauge,
    partition_priority: IntGaugeVec,
    dependency_up: GaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at 0.
    ///
    /// # Panics
    ///
    /// Never: the names are fixed, and a test makes them all.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let register = Registrar(&registry);
        let events = register.counters("events_total", "events that were settled", &["kind", "outcome"]);
        let info = register.gauges("info", "always 1; the version of the program", &["version"]);
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self {
            deliveries: register.counters(
                "deliveries_total",
                "messages that came from the broker",
                &["partition", "redelivered"],
            ),
            events: Kind::ALL.iter().map(|kind| By::with(&events, &[kind.name()])).collect(),
            acked: register.counter("acked_total", "deliveries whose ack was sent"),
            returned: register.counter("returned_total", "deliveries that went back to the broker with their channel"),
            in_flight: InFlight::new(register.gauge("in_flight", "deliveries that some stage of the pipeline holds")),
            balance: register.gauge("balance", "deliveries minus acked, returned and in flight; 0 at rest"),
            dead_letters: register.by("dead_letters_total", "dead letters that a queue has", "reason"),
            archived: register.counter("dead_letters_archived_total", "dead letters that were moved into the table"),
            expired: register.counter("dead_letters_expired_total", "resolved dead letters that were deleted"),
            suspects: register.counter("suspects_total", "deliveries that came so often that they were handled alone"),
            batches: register.by("batches_total", "batches that left for the database", "trigger"),
            batch_events: register.histogram("batch_events", "events of a batch", &EVENTS),
            transactions: register.by("transactions_total", "transactions", "outcome"),
            met: register.counter(
                "transactions_met_total",
                "committed transactions that met those of other replicas in the same rows",
            ),
            known: register.counter(
                "transactions_known_total",
                "committed transactions that wrote nothing: all was applied before",
            ),
            transaction_seconds: register.histogram(
                "transaction_duration_seconds",
                "from the call to its commit's answer, or to the error",
                &SECONDS,
            ),
            retries: register.by("retries_total", "what was done again, or in smaller parts", "cause"),
            publish_to_commit: register.histogram(
                "publish_to_commit_seconds",
                "from publishing, where the message tells it, to the commit",
                &SECONDS,
            ),
            telegram_to_commit: register.histogram(
                "telegram_to_commit_seconds",
                "from Telegram's date to the commit",
                &LONG_SECONDS,
            ),
            dropped_lines: register.gauge("log_lines_dropped", "lines of the log that nobody read in time"),
            partitions: register.gauge("partitions", "queues that events are consumed from"),
            partition_priority: register.int_gauges(
                "partition_priority",
                "the priority of this replica on a partition; the replica with the highest is preferred",
                &["partition"],
            ),
            dependency_up: {
                let up = register.gauges("dependency_up", "1 where the dependency can be used", &["dependency"]);
                for dependency in Dependency::ALL {
                    up.with_label_values(&[dependency.name()]).set(0.0);
                }
                up
            },
            registry,
        }
    }

    /// What happens to events of this kind.
    #[must_use]
    pub fn events(&self, kind: Kind) -> &By<Outcome> {
        &self.events[kind as usize]
    }

    /// From now on this replica consumes with these priorities, one for each partition. Returns what counts
    /// the deliveries.
    pub fn consumes(&self, priorities: impl IntoIterator<Item = i32>) -> Deliveries {
        self.partition_priority.reset();
        let mut counters = Vec::new();
        for (partition, priority) in priorities.into_iter().enumerate() {
            let partition = partition.to_string();
            self.partition_priority.with_label_values(&[&partition]).set(priority.into());
            let counter = |redelivered| self.deliveries.with_label_values(&[partition.as_str(), redelivered]);
            counters.push([counter("false"), counter("true")]);
        }
        self.partitions.set(i64::try_from(counters.len()).unwrap_or(i64::MAX));
        Deliveries(counters)
    }

    /// A dependency can be used, or cannot.
    pub fn dependency(&self, dependency: Dependency, is_up: bool) {
        self.dependency_up.with_label_values(&[dependency.name()]).set(f64::from(u8::from(is_up)));
    }

    /// All deliveries that came in.
    #[must_use]
    pub fn received_in_all(&self) -> u64 {
        let families = self.deliveries.collect();
        let counters = families.iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        // Counters are kept as whole numbers and shown as floats.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, below 2^53")]
        counters.map(|counter| counter.get_counter().get_value() as u64).sum()
    }

    /// Deliveries that nobody can account for; 0 at rest.
    #[must_use]
    pub fn balance(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.received_in_all()) - signed(self.acked.get()) - signed(self.returned.get()) - self.in_flight.count()
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        self.balance.set(self.balance());
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// Counts deliveries by partition.
#[derive(Debug)]
pub struct Deliveries(Vec<[IntCounter; 2]>);

impl Deliveries {
    /// One came in.
    pub fn add(&self, partition: usize, redelivered: bool) {
        self.0[partition][usize::from(redelivered)].inc();
    }
}

/// Makes metrics and enters them; names are given without the prefix.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn enter<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("a valid name");
        self.0.register(Box::new(collector.clone())).expect("a name that is used once");
        collector
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.enter(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.enter(IntCounterVec::new(opts(name, help), labels))
    }

    fn by<L: Label>(&self, name: &str, help: &str, label: &str) -> By<L> {
        By::with(&self.counters(name, help, &[label]), &[])
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.enter(IntGauge::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.enter(GaugeVec::new(opts(name, help), labels))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.enter(IntGaugeVec::new(opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.enter(Histogram::with_opts(HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec())))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("rollcall_{name}"), help)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Name, type and labels of every metric, as a scrape shows them.
    fn shown() -> BTreeMap<String, (String, String)> {
        let metrics = Metrics::new();
        metrics.consumes([1]);
        let text = metrics.text();
        let mut shown = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let sample = text.lines().find(|line| line.starts_with(name)).unwrap();
            let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let labels: Vec<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
            let labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").collect();
            shown.insert(name.to_owned(), (kind.to_owned(), labels.join(", ")));
        }
        shown
    }

    #[test]
    fn the_table_in_the_docs_has_every_metric_and_no_other() {
        let table = include_str!("../../docs/metrics.md");
        let mut documented = BTreeMap::new();
        for line in table.lines().filter(|line| line.starts_with("| `rollcall_")) {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            assert!(!cells[4].is_empty(), "{line}");
            documented.insert(cells[1].clone(), (cells[2].clone(), cells[3].clone()));
        }
        assert_eq!(documented, shown());
    }

    #[test]
    fn every_label_value_is_there_from_the_start() {
        let text = Metrics::new().text();
        for reason in Reason::ALL {
            assert!(text.contains(&format!("rollcall_dead_letters_total{{reason=\"{reason}\"}} 0")), "{text}");
        }
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                let (kind, outcome) = (kind.name(), outcome.name());
                assert!(text.contains(&format!("rollcall_events_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} 0")));
            }
        }
        for cause in Cause::ALL {
            assert!(text.contains(&format!("rollcall_retries_total{{cause=\"{}\"}} 0", cause.name())));
        }
    }

    #[test]
    fn the_balance_accounts_for_every_delivery() {
        let metrics = Metrics::new();
        let deliveries = metrics.consumes([1, 2]);
        let held = [metrics.in_flight.hold(), metrics.in_flight.hold()];
        deliveries.add(0, false);
        deliveries.add(1, true);
        assert_eq!((metrics.received_in_all(), metrics.balance()), (2, 0));
        drop(held);
        assert_eq!(metrics.balance(), 2, "dropped and neither acked nor returned");
        metrics.acked.inc();
        metrics.returned.inc();
        assert_eq!(metrics.balance(), 0);
    }
}
