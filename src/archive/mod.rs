//! Archive: dead letters move from the dead queue into the table, where people look after them.
//!
//! The queue holds them while the database is away. A letter that comes twice is one row.

mod retention;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use retention::sweep;

use crate::{
    apply::Lane,
    broker::Frames,
    consume::{self, Connected, DeadIntake, DeadLetter, Delivery, Intake},
    database::Fault,
    decode::{self, Kind, Refusal},
    retry::Backoff,
    sabotage::{Bug, is_on},
    settings::Settings,
    settle::Ack,
    status::Status,
};

/// Unsettled letters that are held, and written at once.
const PREFETCH: u16 = 64;
/// Bodies that are written at once, in bytes; a single longer one still is.
const MAX_BYTES: usize = 16 << 20;

/// A row of `dead_letters` but for its body, which is the key.
#[derive(Debug)]
struct Row {
    refusal: Refusal,
    org: Option<Uuid>,
    routing_key: String,
    headers: String,
    attempts: i32,
}

/// Moves dead letters until `stop` is cancelled.
pub async fn run(settings: Arc<Settings>, status: Arc<Status>, stop: CancellationToken) {
    let mut archivist = Archivist {
        lane: Lane::new(settings.database.clone()),
        backoff: Backoff::new(&settings.retry),
        frames: Frames::Short,
        settings,
        status,
    };
    while !stop.is_cancelled() {
        if let Err(error) = archivist.session(&stop).await {
            if consume::lengthen(&mut archivist.frames, &error) {
                continue;
            }
            archivist.status.dead_queue_is_lost();
            let wait = archivist.backoff.next_wait();
            tracing::debug!(error = format!("{error:#}"), ?wait, "archiving pauses");
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
    }
}

struct Archivist {
    settings: Arc<Settings>,
    status: Arc<Status>,
    lane: Lane,
    backoff: Backoff,
    frames: Frames,
}

impl Archivist {
    async fn session(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let Some(opened) = stop.run_until_cancelled(self.open()).await else { return Ok(()) };
        let mut intake = opened?;
        let outcome = self.archive(&mut intake, stop).await;
        intake.close().await;
        outcome
    }

    async fn open(&self) -> anyhow::Result<DeadIntake> {
        let broker = &self.settings.broker;
        let connected = Connected::new(broker, "rollcall archive", self.frames).await?;
        Intake::open_dead(connected, broker, PREFETCH).await
    }

    async fn archive(&mut self, intake: &mut DeadIntake, stop: &CancellationToken) -> anyhow::Result<()> {
        while let Some(first) = stop.run_until_cancelled(intake.next()).await {
            let mut letters = vec![first?];
            let mut bytes = letters[0].delivery.body.len();
            // What is there already goes along, nothing is waited for.
            while letters.len() < usize::from(PREFETCH) && bytes < MAX_BYTES {
                let Some(next) = intake.next().now_or_never() else { break };
                let next = next?;
                bytes += next.delivery.body.len();
                letters.push(next);
            }
            let Some(tag) = letters.last().map(|letter| letter.delivery.tag) else { continue };
            let ack = Ack { partition: 0, tag, multiple: true, count: letters.len() as u64 };
            let rows = self.fold(letters);
            if is_on(Bug::ArchiveAcksFirst) {
                intake.inner().ack(ack).await?;
            }
            if self.store(&rows, stop).await.is_none() {
                return Ok(());
            }
            if !is_on(Bug::ArchiveAcksFirst) {
                intake.inner().ack(ack).await?;
            }
        }
        intake.inner().cancel().await?;
        intake.inner().ack_surely(&[]).await
    }

    /// One row per body, the latest reason wins.
    fn fold(&self, letters: Vec<DeadLetter>) -> BTreeMap<Vec<u8>, Row> {
        let mut rows = BTreeMap::<_, Row>::new();
        for DeadLetter { delivery, refusal, headers } in letters {
            let Delivery { body, routing_key, .. } = delivery;
            let org = decode::org_of(&body, self.settings.limits.max_body_bytes);
            let attempts = rows.get(&body).map_or(0, |before| before.attempts) + 1;
            rows.insert(body, Row { refusal, org, routing_key, headers: headers.to_string(), attempts });
        }
        rows
    }

    /// Stores the rows, however long it takes; `None` if the worker stops first.
    async fn store(&mut self, rows: &BTreeMap<Vec<u8>, Row>, stop: &CancellationToken) -> Option<()> {
        loop {
            match self.try_store(rows).await {
                Ok(()) => {
                    self.status.database_works();
                    self.status
                        .metrics
                        .archived
                        .inc_by(rows.values().map(|row| u64::from(row.attempts.unsigned_abs())).sum());
                    return Some(());
                }
                Err(fault) => {
                    let wait = self.backoff.next_wait();
                    self.status.database_fails(&fault, wait);
                    stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
                }
            }
        }
    }

    async fn try_store(&mut self, rows: &BTreeMap<Vec<u8>, Row>) -> Result<(), Fault> {
        let values = || rows.values();
        let query = sqlx::query(include_str!("sql/insert_dead_letters.sql"))
            .bind(values().map(|row| row.refusal.reason.code()).collect::<Vec<_>>())
            .bind(values().map(|row| row.refusal.detail.as_str()).collect::<Vec<_>>())
            .bind(
                values()
                    .map(|row| Some(row.refusal.kind.name()).filter(|_| row.refusal.kind != Kind::None))
                    .collect::<Vec<_>>(),
            )
            .bind(values().map(|row| row.refusal.culprit.path()).collect::<Vec<_>>())
            .bind(values().map(|row| row.refusal.culprit.sqlstate()).collect::<Vec<_>>())
            .bind(values().map(|row| row.refusal.culprit.constraint()).collect::<Vec<_>>())
            .bind(values().map(|row| row.org).collect::<Vec<_>>())
            .bind(values().map(|row| row.routing_key.as_str()).collect::<Vec<_>>())
            .bind(values().map(|row| row.headers.as_str()).collect::<Vec<_>>())
            .bind(rows.keys().map(Vec::as_slice).collect::<Vec<_>>())
            .bind(values().map(|row| row.attempts).collect::<Vec<_>>());
        self.lane
            .transaction(async |connection| {
                query.execute(connection).await?;
                Ok(())
            })
            .await
    }
}
