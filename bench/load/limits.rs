//! The two limits, each in a process of its own: a consumer that only acks, and the worker's SQL without broker and
//! decoding. They begin when a line comes in, tell by a line when they are done, and stay until they were measured.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream::select_all};
use lapin::{
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use rollcall::{
    apply::{Applied, Lane},
    batch::Batcher,
    broker::{self, Topology},
    clock,
    decode::{Fact, decode},
    pipeline,
    settings::{Settings, Sources},
};
use tokio::{io::AsyncBufReadExt as _, task::JoinSet};
use uuid::Uuid;

use crate::options::Limit;

/// What the processes say.
pub const READY: &str = "ready";
pub const DONE: &str = "done";

/// The facts of an event, and the length of its body.
type Event = (Uuid, Vec<Fact>, usize);

pub async fn run(limit: &Limit) -> anyhow::Result<()> {
    match limit {
        Limit::Ack { events, set } => {
            let settings = settings(set)?;
            let end = begin().await?;
            ack_all(&settings, *events).await?;
            end.wait().await
        }
        Limit::Sql { bodies, waiting, set } => {
            let settings = settings(set)?;
            let events = decode_all(bodies, &settings)?;
            let end = begin().await?;
            apply_all(&settings, events, *waiting).await?;
            end.wait().await
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
    println!("{READY}");
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await?.context("nobody waits")?;
    Ok(End(lines))
}

impl End {
    async fn wait(mut self) -> anyhow::Result<()> {
        println!("{DONE}");
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
    let mut consumers = Vec::new();
    for queue in Topology::new(&settings.broker).event_queues() {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        consumers.push(channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await?);
    }
    let mut deliveries = select_all(consumers);
    let (mut seen, mut newest) = (0, 0);
    while seen < events {
        newest = newest.max(deliveries.next().await.context("the consumers ended")??.delivery_tag);
        seen += 1;
        // Of one queue no more than half of the prefetch stands open.
        if seen % u64::from(prefetch / 2).max(1) == 0 || seen == events {
            channel.basic_ack(newest, BasicAckOptions { multiple: true }).await?;
        }
    }
    // Its answer comes when the broker has read all acks.
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    Ok(())
}

fn decode_all(bodies: &Path, settings: &Settings) -> anyhow::Result<Vec<Event>> {
    let limits = pipeline::limits(settings);
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

/// As the worker's writers do it, with so many events waiting for each.
async fn apply_all(settings: &Settings, events: Vec<Event>, waiting: usize) -> anyhow::Result<()> {
    let writers = settings.database.writers;
    let mut parts: Vec<Vec<Event>> = (0..writers).map(|_| Vec::new()).collect();
    for event in events {
        parts[pipeline::writer_of(event.0, writers)].push(event);
    }
    let mut tasks = JoinSet::new();
    for part in parts {
        let lane = Lane::new(settings.database.clone());
        tasks.spawn(apply_part(part, Batcher::new(pipeline::size(settings)), lane, waiting));
    }
    while let Some(applied) = tasks.join_next().await {
        applied??;
    }
    Ok(())
}

async fn apply_part(
    events: Vec<Event>,
    mut batcher: Batcher<Vec<Fact>>,
    mut lane: Lane,
    most_waiting: usize,
) -> anyhow::Result<()> {
    let mut events = events.into_iter();
    let mut waiting = 0;
    loop {
        for (org, facts, bytes) in events.by_ref().take(most_waiting.max(1) - waiting) {
            batcher.push(org, facts, bytes);
            waiting += 1;
        }
        let batches = batcher.take(std::time::Instant::now());
        if batches.is_empty() {
            return Ok(());
        }
        waiting -= batches.iter().map(|batch| batch.events.len()).sum::<usize>();
        let facts: Vec<_> =
            batches.iter().flat_map(|batch| batch.events.iter().flatten().map(|fact| (batch.org, fact))).collect();
        let applied = lane.apply(&facts).await?;
        ensure!(applied == Applied::default(), "not applied: {applied:?}");
    }
}
