//! The two limits, each in a process of its own: a consumer that only acks, and the worker's SQL without broker and
//! decoding. They begin when a line comes in, tell by a line when they are done, and stay until they were measured.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream::select_all};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    types::FieldTable,
};
use rollcall::{
    apply::{Applied, Lane},
    batch::Batcher,
    broker::{self, Topology},
    clock,
    decode::{Fact, Limits, decode},
    pipeline,
    settings::{Settings, Sources},
};
use tokio::{io::AsyncBufReadExt as _, task::JoinSet};
use uuid::Uuid;

use crate::options::Limit;

/// What the processes say, the second with the number of transactions.
pub const READY: &str = "ready ";
pub const DONE: &str = "done ";

/// An organization, the facts of an event, and the length of its body.
type Event = (Uuid, Vec<Fact>, usize);

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
            let events = decode_all(bodies, &settings)?;
            let end = begin().await?;
            let transactions = apply_all(&settings, events).await?;
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

/// With the worker's prefetch, over one channel, as it consumes itself.
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

fn decode_all(bodies: &Path, settings: &Settings) -> anyhow::Result<Vec<Event>> {
    let limits = Limits::from(&settings.limits);
    let now = clock::now();
    let bodies = fs::read(bodies)?;
    let mut events = Vec::new();
    for body in bodies.split(|byte| *byte == b'\n') {
        if let Some(event) = decode(body, &limits, now)? {
            events.push((event.org.context("a bare update")?, event.facts, body.len()));
        }
    }
    Ok(events)
}

/// As the worker's writers do it, each with its share of what the prefetch allows always waiting for it. Returns the number of
/// transactions.
async fn apply_all(settings: &Settings, events: Vec<Event>) -> anyhow::Result<u64> {
    let (writers, partitions) = (settings.database.writers, usize::from(settings.broker.partitions));
    let waiting = usize::from(settings.broker.prefetch) * partitions / writers;
    let mut parts: Vec<Vec<Event>> = (0..writers).map(|_| Vec::new()).collect();
    for event in events {
        parts[pipeline::writer_of(event.0, writers)].push(event);
    }
    let mut tasks = JoinSet::new();
    for part in parts {
        let lane = Lane::new(settings.database.clone());
        let partition = move |org| pipeline::writer_of(org, writers * partitions) / writers;
        tasks.spawn(apply_part(part, partition, Batcher::new(partitions, pipeline::size(settings)), lane, waiting));
    }
    let mut transactions = 0;
    while let Some(applied) = tasks.join_next().await {
        transactions += applied??;
    }
    Ok(transactions)
}

async fn apply_part(
    events: Vec<Event>,
    partition: impl Fn(Uuid) -> usize,
    mut batcher: Batcher<Vec<Fact>>,
    mut lane: Lane,
    most_waiting: usize,
) -> anyhow::Result<u64> {
    let mut events = events.into_iter();
    let (mut waiting, mut transactions) = (0, 0);
    loop {
        for (org, facts, bytes) in events.by_ref().take(most_waiting.max(1) - waiting) {
            batcher.push(partition(org), org, facts, bytes);
            waiting += 1;
        }
        let batches = batcher.take(std::time::Instant::now());
        if batches.is_empty() {
            return Ok(transactions);
        }
        transactions += 1;
        waiting -= batches.iter().map(|batch| batch.events.len()).sum::<usize>();
        let facts: Vec<_> =
            batches.iter().flat_map(|batch| batch.events.iter().flatten().map(|fact| (batch.org, fact))).collect();
        let applied = lane.apply(&facts).await?;
        ensure!(applied == Applied::default(), "not applied: {applied:?}");
    }
}
