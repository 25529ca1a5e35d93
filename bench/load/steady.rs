//! A steady rate: how long events take, and how long partitions take to change hands.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::future::BoxFuture;
use rollcall::{
    broker::{self, Publisher, Topology},
    consume::priority,
};

use crate::{
    contender::Run,
    figures::{Figures, percentile},
    load::Load,
    support::{
        Place, Replica,
        proxy::{Delivered, Proxy, Published, Watcher},
    },
};

/// Before anything is counted: connections open, statements are prepared.
const WARM_UP: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// An ack that a replica sent.
struct Ack {
    delivered_at: Instant,
    at: Instant,
    partition: Option<usize>,
    body: Arc<[u8]>,
}

#[derive(Default)]
struct Acks(Mutex<Vec<Ack>>);

impl Acks {
    /// When a partition's first ack after a moment came.
    fn first(&self, partition: usize, after: Instant) -> Option<Instant> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acks.iter().find(|ack| ack.partition == Some(partition) && ack.at > after).map(|ack| ack.at)
    }

    /// Milliseconds from the time that each was due to a moment of its ack's, sorted.
    fn latencies(&self, due: &HashMap<Vec<u8>, Instant>, moment: fn(&Ack) -> Instant) -> Vec<f64> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = |ack: &Ack| Some(moment(ack).duration_since(*due.get(&*ack.body)?).as_secs_f64() * 1000.0);
        let mut latencies: Vec<_> = acks.iter().filter_map(latency).collect();
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}

impl Watcher for Acks {
    fn acked(&self, deliveries: Vec<Delivered>) -> BoxFuture<'_, ()> {
        let at = Instant::now();
        let acks = deliveries.into_iter().map(|Delivered { queue_consumer_tag, at: delivered_at, body, .. }| {
            // <prefix>.events.<partition>@<replica>
            let queue = queue_consumer_tag.split('@').next().unwrap_or_default();
            Ack { delivered_at, at, partition: queue.rsplit('.').next().and_then(|number| number.parse().ok()), body }
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(acks);
        Box::pin(async {})
    }

    fn confirmed(&self, _: Published) {}
}

/// A replica whose acks are seen.
struct Watched {
    replica: Replica,
    acks: Arc<Acks>,
    // Its connections end with it.
    _proxy: Proxy,
}

impl Watched {
    async fn start(run: &Run<'_>, program: &Path, name: &str) -> Self {
        let proxy = Proxy::to(run.place.settings.broker.url.expose()).await;
        let acks = Arc::new(Acks::default());
        proxy.watch(Arc::clone(&acks) as Arc<_>);
        let replica = run.start(program, &[("AMQP_URL", proxy.url())], &[format!("replica.name={name}")]);
        Self { replica, acks, _proxy: proxy }
    }
}

/// From the moment that each event is due to the ack that its commit allows.
pub async fn latency(run: &Run<'_>, program: &Path, rate: u32) -> anyhow::Result<Figures> {
    broker::declare(&run.place.settings.broker).await?;
    let watched = Watched::start(run, program, "a").await;
    watched.replica.ready().await;
    let mut due = publish(run.place, run.load, rate).await?;
    until("everything is acked", async || run.place.ready().await == 0 && in_flight(&watched).await == 0.0).await?;
    let begun = due.values().min().copied().context("nothing was published")?;
    due.retain(|_, due| *due > begun + WARM_UP);
    let delivery = watched.acks.latencies(&due, |ack| ack.delivered_at);
    let latencies = watched.acks.latencies(&due, |ack| ack.at);
    ensure!(latencies.len() == due.len(), "{} of {} acks were seen", latencies.len(), due.len());
    let mut figures = Figures::default();
    for percent in [50, 90, 99, 100] {
        figures.set(&format!("delivery_p{percent}_ms"), percentile(&delivery, percent));
        figures.set(&format!("latency_p{percent}_ms"), percentile(&latencies, percent));
    }
    watched.replica.stop().await;
    Ok(figures)
}

/// A replica is killed, and comes back: how long its partitions rest each time.
pub async fn takeover(run: &Run<'_>, program: &Path, rate: u32) -> anyhow::Result<Figures> {
    let partitions: Vec<_> = (0..usize::from(run.place.settings.broker.partitions))
        .filter(|&partition| priority("a", partition) > priority("b", partition))
        .collect();
    ensure!(!partitions.is_empty(), "the replica a prefers no partition");
    broker::declare(&run.place.settings.broker).await?;
    let first = Watched::start(run, program, "a").await;
    let second = Watched::start(run, program, "b").await;
    first.replica.ready().await;
    second.replica.ready().await;
    let turns = async {
        tokio::time::sleep(WARM_UP).await;
        let killed_at = Instant::now();
        first.replica.kill().await;
        let taken = acked_in_all(&second.acks, &partitions, killed_at).await?;
        // What the other one left is worked off before the next turn.
        tokio::time::sleep(WARM_UP).await;
        let started_at = Instant::now();
        let third = Watched::start(run, program, "a").await;
        let joined = acked_in_all(&third.acks, &partitions, started_at).await?;
        anyhow::Ok((taken, joined, third))
    };
    let ((taken, joined, third), due) = tokio::try_join!(turns, publish(run.place, run.load, rate))?;
    let mut figures = Figures::default();
    figures.set("takeover_ms", taken.as_secs_f64() * 1000.0);
    figures.set("join_ms", joined.as_secs_f64() * 1000.0);
    until("everything is acked", async || run.place.ready().await == 0 && in_flight(&second).await == 0.0).await?;
    let latencies = second.acks.latencies(&due, |ack| ack.at);
    figures.set("latency_p100_ms", percentile(&latencies, 100));
    for watched in [second, third] {
        watched.replica.stop().await;
    }
    Ok(figures)
}

/// How long until each of the partitions was acked in.
async fn acked_in_all(acks: &Acks, partitions: &[usize], since: Instant) -> anyhow::Result<Duration> {
    let firsts = || partitions.iter().map(|&partition| acks.first(partition, since)).collect::<Option<Vec<_>>>();
    until("every partition is acked in", async || firsts().is_some()).await?;
    Ok(firsts().into_iter().flatten().max().map_or(Duration::ZERO, |at| at - since))
}

async fn in_flight(watched: &Watched) -> f64 {
    watched.replica.metrics().await.and_then(|metrics| metrics.get("rollcall_in_flight").copied()).unwrap_or(f64::NAN)
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let polling = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.with_context(|| format!("not within {PATIENCE:?}: {what}"))
}

/// A timer is up to so late.
const TIMER: Duration = Duration::from_millis(2);

/// Publishes at a steady rate, and returns when each event was sent; when it was due, if the publisher was late with it.
async fn publish(place: &Place, load: &Load, rate: u32) -> anyhow::Result<HashMap<Vec<u8>, Instant>> {
    let exchange = Topology::new(&place.settings.broker).events_exchange();
    let publisher = Publisher::open(&place.settings.broker).await?;
    let (mut due, mut unconfirmed) = (HashMap::new(), Vec::new());
    let begun = Instant::now();
    for (number, (key, body)) in (0..).zip(load.messages()) {
        let at = begun + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(at.into()).await;
        let sent_at = Instant::now();
        unconfirmed.push(publisher.send(&exchange, &key, None, &body).await?);
        due.insert(body, if sent_at - at < TIMER { sent_at } else { at });
    }
    for sent in unconfirmed {
        sent.confirmed().await?;
    }
    publisher.close().await;
    Ok(due)
}
