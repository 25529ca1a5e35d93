//! `rollcall status`

use std::time::Duration;

use serde::Serialize;

use super::{CHECK, dead::print_json, needs_broker, table::table};
use crate::{
    broker::{self, Figures, Management, Queue},
    failure::{Failure, Remedy as _},
    settings::Settings,
};

pub(super) const MANAGEMENT: &str = "enable the plugin rabbitmq_management and set broker.management_url, \
                                     like https://user:password@host:15671; the user needs the tag monitoring";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Print JSON; docs/status.md explains it
    #[arg(long)]
    json: bool,
}

/// The document of `--json`; null is what is not known.
#[derive(Serialize)]
struct Report {
    /// Where unacked, rates and replicas come from: `ok`, `off` or `failed`.
    management: &'static str,
    /// `broker.partitions`.
    partitions_set: u16,
    partitions: Vec<Partition>,
    total: Depth,
    dead: Depth,
}

#[derive(Serialize)]
struct Partition {
    partition: usize,
    queue: String,
    /// Beyond `broker.partitions`.
    surplus: bool,
    #[serde(flatten)]
    depth: Depth,
    preferred_replica: Option<String>,
    replicas: Option<Vec<Replica>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Replica {
    replica: String,
    priority: i64,
}

/// How much there is of what.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Depth {
    ready: Option<u64>,
    unacked: Option<u64>,
    consumers: u32,
    publish_per_second: Option<f64>,
    ack_per_second: Option<f64>,
    drain_seconds: Option<f64>,
}

pub(super) async fn run(settings: &Settings, args: &Args) -> Result<(), Failure> {
    needs_broker(settings)?;
    let queues = broker::inspect(&settings.broker).await.remedy(CHECK)?;
    let (management, figures) = match figures(settings, &queues).await {
        Ok(None) => ("off", Ok(Vec::new())),
        Ok(Some(figures)) => ("ok", Ok(figures)),
        Err(error) => ("failed", Err(error)),
    };
    let report = report(settings.broker.partitions, management, queues, figures.as_deref().unwrap_or_default());
    if args.json {
        print_json(&report)?;
    } else {
        print(&report);
    }
    figures.map(drop).remedy(MANAGEMENT)
}

/// What the management API says of each queue, in their order; `None` where it is not to be asked.
async fn figures(settings: &Settings, queues: &[Queue]) -> anyhow::Result<Option<Vec<Option<Figures>>>> {
    let Some(mut management) = Management::open(&settings.broker).await? else { return Ok(None) };
    let mut figures = Vec::new();
    for queue in queues {
        figures.push(management.figures(&queue.name).await?);
    }
    Ok(Some(figures))
}

fn report(
    partitions_set: u16,
    management: &'static str,
    mut queues: Vec<Queue>,
    figures: &[Option<Figures>],
) -> Report {
    let told = |index: usize| figures.get(index).and_then(Option::as_ref);
    let dead = queues.pop().map_or(Depth::NONE, |queue| Depth::new(&queue, told(queues.len())));
    let partitions: Vec<_> = queues
        .into_iter()
        .enumerate()
        .map(|(partition, queue)| {
            let replicas = told(partition).map(|figures| replicas(&queue.name, figures));
            Partition {
                partition,
                surplus: partition >= partitions_set.into(),
                depth: Depth::new(&queue, told(partition)),
                preferred_replica: replicas.iter().flatten().next().map(|first| first.replica.clone()),
                replicas,
                queue: queue.name,
            }
        })
        .collect();
    let total = partitions.iter().map(|partition| partition.depth).reduce(Depth::plus).unwrap_or(Depth::NONE);
    Report { management, partitions_set, partitions, total, dead }
}

/// The replicas that consume from a queue, the preferred one first.
fn replicas(queue: &str, figures: &Figures) -> Vec<Replica> {
    let mut replicas: Vec<_> = figures
        .consumers
        .iter()
        .filter_map(|consumer| {
            let replica = consumer.tag.strip_prefix(queue)?.strip_prefix('@')?;
            Some(Replica { replica: replica.to_owned(), priority: consumer.priority })
        })
        .collect();
    replicas.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.replica.cmp(&b.replica)));
    replicas
}

impl Depth {
    const NONE: Self = Self {
        ready: None,
        unacked: None,
        consumers: 0,
        publish_per_second: None,
        ack_per_second: None,
        drain_seconds: None,
    };

    fn new(queue: &Queue, figures: Option<&Figures>) -> Self {
        Self {
            ready: queue.messages.map(u64::from),
            unacked: figures.and_then(|figures| figures.unacked),
            consumers: queue.consumers,
            publish_per_second: figures.and_then(|figures| figures.publish_rate),
            ack_per_second: figures.and_then(|figures| figures.ack_rate),
            drain_seconds: None,
        }
        .with_drain()
    }

    /// A count is known where both are. A queue that never had an event has no rates beside one that has some.
    fn plus(self, other: Self) -> Self {
        let counts = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let rates = |a: Option<f64>, b: Option<f64>| a.or(b).map(|_| a.unwrap_or(0.0) + b.unwrap_or(0.0));
        Self {
            ready: counts(self.ready, other.ready),
            unacked: counts(self.unacked, other.unacked),
            consumers: self.consumers + other.consumers,
            publish_per_second: rates(self.publish_per_second, other.publish_per_second),
            ack_per_second: rates(self.ack_per_second, other.ack_per_second),
            drain_seconds: None,
        }
        .with_drain()
    }

    /// What is there over what is acked a second: how long it takes at this rate if nothing more came, which is also
    /// about what an event that is published now waits.
    fn with_drain(self) -> Self {
        let drain_seconds = self.ready.zip(self.unacked).and_then(|(ready, unacked)| {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let held = (ready + unacked) as f64;
            if held == 0.0 { Some(0.0) } else { self.ack_per_second.filter(|rate| *rate > 0.0).map(|rate| held / rate) }
        });
        Self { drain_seconds, ..self }
    }

    fn cells(&self) -> [String; 6] {
        let count = |count: Option<u64>| count.map_or_else(|| "-".into(), |count| count.to_string());
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".into(), |rate| format!("{rate:.1}"));
        let drain = self.drain_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.ceil()).ok());
        [
            count(self.ready),
            count(self.unacked),
            self.consumers.to_string(),
            rate(self.publish_per_second),
            rate(self.ack_per_second),
            drain.map_or_else(|| "-".into(), |drain| humantime::format_duration(drain).to_string()),
        ]
    }
}

fn print(report: &Report) {
    let head = ["QUEUE", "READY", "UNACKED", "CONSUMERS", "IN/S", "ACKS/S", "DRAINS IN", "PREFERS"];
    let row = |name: String, depth: &Depth, last: String| {
        let [ready, unacked, consumers, published, acked, drain] = depth.cells();
        [name, ready, unacked, consumers, published, acked, drain, last]
    };
    let mut rows: Vec<_> = report
        .partitions
        .iter()
        .map(|partition| {
            let preferred = partition.preferred_replica.as_deref().unwrap_or("-");
            let surplus = if partition.surplus { " (surplus)" } else { "" };
            row(partition.queue.clone(), &partition.depth, format!("{preferred}{surplus}"))
        })
        .collect();
    rows.push(row("all events".into(), &report.total, String::new()));
    rows.push(row("dead letters".into(), &report.dead, String::new()));
    println!("{}", table(head, rows));
    let missing = report.partitions.iter().filter(|partition| partition.depth.ready.is_none()).count();
    if missing > 0 {
        println!("\n{missing} queues are not there yet: the first publish or run declares them");
    }
    if report.partitions.iter().any(|partition| partition.surplus) {
        println!("\nmore queues than broker.partitions, {}: rollcall partitions apply", report.partitions_set);
    }
    if report.management == "off" {
        println!("\nunacked, rates and replicas are not known without the management API: {MANAGEMENT}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Consumer;

    fn queue(messages: u32) -> Queue {
        Queue { name: "q".into(), messages: Some(messages), consumers: 1 }
    }

    #[test]
    fn the_greatest_priority_is_preferred() {
        let consumer = |tag: &str, priority| Consumer { tag: tag.into(), priority };
        let consumers = vec![consumer("q@a", 1), consumer("q@b@c", 7), consumer("q2@d", 9), consumer("mine", 99)];
        let figures = Figures { consumers, ..Figures::default() };
        let names: Vec<_> = replicas("q", &figures).into_iter().map(|replica| replica.replica).collect();
        assert_eq!(names, ["b@c", "a"]);
    }

    #[test]
    fn a_drain_is_estimated_only_from_what_is_known() {
        let figures = |unacked, ack_rate| Figures { unacked, ack_rate, ..Figures::default() };
        let drain = |ready, figures: Option<&Figures>| Depth::new(&queue(ready), figures).drain_seconds;
        assert_eq!(drain(10, None), None);
        assert_eq!(drain(10, Some(&figures(Some(10), Some(4.0)))), Some(5.0));
        assert_eq!(drain(10, Some(&figures(Some(0), Some(0.0)))), None);
        assert_eq!(drain(0, Some(&figures(Some(0), None))), Some(0.0));
    }
}
