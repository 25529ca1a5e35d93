//! The two limits, each in a process of its own: a consumer that only acks, and the worker's SQL without broker and
//! decoding. They begin when a line comes in, tell by a line when they are done, and stay until they were measured.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream::select_all};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    types::FieldTable,
};
use rollcall::{
    apply::{Applied, Lane},
    batch::{Batcher, Transaction},
    broker::{self, Publisher, Topology},
    clock,
    decode::{Fact, Few, Limits, decode},
    pipeline,
    settings::{Settings, Sources},
};
use tokio::{io::AsyncBufReadExt as _, sync::Notify, task::JoinSet};
use uuid::Uuid;

use crate::options::Limit;

/// What the processes say, the second with the number of transactions.
pub const READY: &str = "ready ";
pub const DONE: &str = "done ";

/// An organization, the facts of an event, and the length of its body.
pub type Event = (Uuid, Few<Fact<'static>>, usize);

pub async fn run(limit: &Limit) -> anyhow::Result<()> {
    match limit {
        Limit::Ack { events, set } => {
            let settings = settings(set)?;
            let end = begin().await?;
            ack_all(&settings, *events).await?;
            end.wait(0).await
        }
        Limit::Sql { bodies, set } => {
            let settings = settings(set)?;
            let events = decode_all(&fs::read(bodies)?, &settings)?;
            let partitions = find_partitions(&settings, events.iter().map(|(org, ..)| *org).collect()).await?;
            let end = begin().await?;
            let transactions = apply_all(&settings, &partitions, events).await?;
            end.wait(transactions).await
        }
    }
}

fn settings(set: &[String]) -> anyhow::Result<Settings> {
    Ok(Settings::load(&Sources {
        environment: std::env::vars().collect(),
        flags: set.to_owned(),
        ..Sources::default()
    })?)
}

struct End(tokio::io::Lines<tokio::io::BufReader<tokio::io::Stdin>>);

async fn begin() -> anyhow::Result<End> {
    println!("{READY}0");
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await?.context("nobody waits")?;
    Ok(End(lines))
}

impl End {
    async fn wait(mut self, transactions: u64) -> anyhow::Result<()> {
        println!("{DONE}{transactions}");
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }
}

/// With the worker's prefetch, over one channel.
async fn ack_all(settings: &Settings, events: u64) -> anyhow::Result<()> {
    let prefetch = settings.broker.prefetch;
    let connection = broker::connect(&settings.broker, "ack-only limit").await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let topology = Topology::new(&settings.broker);
    let mut consumers = Vec::new();
    for queue in topology.event_queues() {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        consumers.push(channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await?);
    }
    let mut deliveries = select_all(consumers);
    let (mut seen, mut newest, mut acked) = (0, 0, 0);
    while seen < events {
        newest = newest.max(deliveries.next().await.context("the consumers ended")??.delivery_tag);
        seen += 1;
        // Of one queue no more than half of the prefetch stands open.
        let is_due = seen % u64::from(prefetch / 2).max(1) == 0 || seen == events;
        // The queues' deliveries mix, so that an ack may be for some that were not seen yet.
        if is_due && newest > acked {
            acked = newest;
            channel.basic_ack(newest, BasicAckOptions { multiple: true }).await?;
        }
    }
    // A get is a command in the queue's log too: its answer comes when the acks before it are applied.
    for queue in topology.event_queues() {
        let left = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
        ensure!(left.is_none(), "{queue} is not empty");
    }
    Ok(())
}

/// Which partition the broker gives each organization: as uneven as it is for the worker.
async fn find_partitions(settings: &Settings, orgs: HashSet<Uuid>) -> anyhow::Result<HashMap<Uuid, usize>> {
    let topology = broker::declare(&settings.broker).await?;
    let publisher = Publisher::open(&settings.broker).await?;
    let mut unconfirmed = Vec::new();
    for org in &orgs {
        unconfirmed.push(publisher.send(&topology.events_exchange(), &org.to_string(), None, b"").await?);
    }
    for sent in unconfirmed {
        sent.confirmed().await?;
    }
    publisher.close().await;

    let connection = broker::connect(&settings.broker, "finding partitions").await?;
    let channel = connection.create_channel().await?;
    let mut found = HashMap::new();
    for (partition, queue) in topology.event_queues().enumerate() {
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = channel.basic_get(queue.as_str().into(), options).await? {
            found.insert(message.routing_key.as_str().parse()?, partition);
        }
    }
    broker::close(connection).await;
    ensure!(found.len() == orgs.len(), "{} of {} organizations have a partition", found.len(), orgs.len());
    Ok(found)
}

/// The events of bodies, one a line.
pub fn decode_all(bodies: &[u8], settings: &Settings) -> anyhow::Result<Vec<Event>> {
    let limits = Limits::from(&settings.limits);
    let now = clock::now();
    let mut events = Vec::new();
    for body in bodies.split(|byte| *byte == b'\n') {
        if let Some(event) = decode(body, &limits, now)? {
            events.push((event.org.context("a bare update")?, event.into_owned().facts, body.len()));
        }
    }
    Ok(events)
}

/// As the worker's writers do it, with all that the prefetch allows always waiting or being written. Returns the number
/// of transactions.
async fn apply_all(settings: &Settings, partitions: &HashMap<Uuid, usize>, events: Vec<Event>) -> anyhow::Result<u64> {
    let count = usize::from(settings.broker.partitions);
    let batcher = Batcher::new(count, pipeline::size(settings));
    let mut queues = vec![VecDeque::new(); count];
    for event in events {
        queues[partitions[&event.0]].push_back(event);
    }
    let room = vec![usize::from(settings.broker.prefetch); count];
    let writers = settings.database.writers;
    let backlog = Backlog { batcher, queues, room, idle: writers };
    let backlog = Arc::new((Mutex::new(backlog), Notify::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        tasks.spawn(apply_some(Arc::clone(&backlog), Lane::new(settings.database.clone())));
    }
    let mut transactions = 0;
    while let Some(applied) = tasks.join_next().await {
        transactions += applied??;
    }
    Ok(transactions)
}

/// What was not written yet.
struct Backlog {
    batcher: Batcher<Few<Fact<'static>>>,
    /// Of each partition.
    queues: Vec<VecDeque<Event>>,
    /// How many more events of each a worker would get from the broker now.
    room: Vec<usize>,
    /// Writers without a transaction.
    idle: usize,
}

impl Backlog {
    fn take(&mut self) -> Option<Transaction<Few<Fact<'static>>>> {
        for (partition, (queue, room)) in self.queues.iter_mut().zip(&mut self.room).enumerate() {
            let count = queue.len().min(*room);
            *room -= count;
            for (org, facts, bytes) in queue.drain(..count) {
                self.batcher.push(partition, org, facts, bytes);
            }
        }
        let taken = self.batcher.take(Instant::now(), self.idle, None)?;
        self.idle -= 1;
        Some(taken)
    }

    /// Whether nothing waits, here or where it would come from.
    fn is_empty(&self) -> bool {
        self.batcher.waiting() == 0 && self.queues.iter().all(VecDeque::is_empty)
    }
}

async fn apply_some(backlog: Arc<(Mutex<Backlog>, Notify)>, mut lane: Lane) -> anyhow::Result<u64> {
    let (backlog, released) = &*backlog;
    let backlog = || backlog.lock().unwrap_or_else(PoisonError::into_inner);
    let mut transactions = 0;
    loop {
        let release = released.notified();
        let (taken, is_all, due) = {
            let mut backlog = backlog();
            (backlog.take(), backlog.is_empty(), backlog.batcher.next_due(Instant::now()))
        };
        let Some(Transaction { batches, hold, .. }) = taken else {
            if is_all {
                break Ok(transactions);
            }
            // The other writers hold the organizations of all that waits, or all that a worker would have; or more gathers.
            match due {
                Some(due) => drop(tokio::time::timeout_at(due.into(), release).await),
                None => release.await,
            }
            continue;
        };
        transactions += 1;
        let facts: Vec<_> =
            batches.iter().flat_map(|batch| batch.events.iter().flatten().map(|fact| (batch.org, fact))).collect();
        let Applied { busy, unknown, .. } = lane.apply(&facts).await?;
        ensure!(busy.is_empty() && unknown.is_empty(), "not applied: {busy:?}, {unknown:?}");
        let mut backlog = backlog();
        for batch in batches {
            backlog.room[batch.partition] += batch.events.len();
        }
        backlog.idle += 1;
        backlog.batcher.release(hold);
        released.notify_waiters();
    }
}
