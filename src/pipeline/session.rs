//! A session: what lives and dies with one consuming channel. Receipts of one session mean nothing to
//! the next, so no ack can ever reach a channel that its delivery did not come by.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Worker,
    router::{Bare, Writers, route},
    status::Status,
    ticket::{Settlement, Share},
    writer::Writer,
};
use crate::{
    apply::Lane,
    batch::Size,
    broker::Topology,
    clock,
    consume::{Delivery, Intake},
    decode::{Limits, Reason, Refusal, decode},
    retry::Backoff,
    settings::{self, Settings},
    settle::{Ledger, Letter, Receipt, Refused, publish_letters},
};

/// The way out: where every stage sends what is settled or refused.
#[derive(Clone)]
pub(super) struct Outlet {
    settled: mpsc::Sender<Vec<Receipt>>,
    refused: mpsc::Sender<Refused>,
    pub(super) status: Arc<Status>,
    /// The channel is gone: nothing can be settled any more.
    pub(super) over: CancellationToken,
    /// The session is over or the worker stops: nothing is waited for any more.
    pub(super) abandon: CancellationToken,
}

impl Outlet {
    pub(super) async fn settle(&self, settlements: impl Iterator<Item = Settlement>) {
        let mut receipts = Vec::new();
        for settlement in settlements {
            match settlement {
                Settlement::Ack(receipt) => receipts.push(receipt),
                Settlement::Refuse(refused) => self.refuse(refused).await,
            }
        }
        if !receipts.is_empty() {
            self.status.counts.applied.add(receipts.len());
            // Both channels close only when the session is over, and the broker delivers again.
            let _ = self.settled.send(receipts).await;
        }
    }

    pub(super) async fn refuse(&self, refused: Refused) {
        let _ = self.refused.send(refused).await;
    }

    /// Waits; `None` if there is no sense in waiting on.
    pub(super) async fn wait(&self, time: Duration) -> Option<()> {
        tokio::select! {
            () = tokio::time::sleep(time) => Some(()),
            () = self.abandon.cancelled() => None,
        }
    }
}

/// Why a session ended without an error.
pub(super) struct Stopped;

/// Consumes until the worker stops, then finishes what was begun; or until the channel breaks.
pub(super) async fn run(worker: &Worker, topology: Topology, stop: &CancellationToken) -> anyhow::Result<Stopped> {
    let settings = &worker.settings;
    let intake = Intake::open(&settings.broker, &topology, &worker.replica).await?;
    worker.status.broker_works();
    tracing::info!(replica = worker.replica, partitions = topology.event_queues().count(), "consuming");

    let over = CancellationToken::new();
    let held = usize::from(settings.broker.prefetch) * topology.event_queues().count();
    // Each message holds at least one unsettled delivery, of which there are `held`: these two never fill.
    let (settled, settlements) = mpsc::channel(held);
    let (refused, letters) = mpsc::channel(held);
    // Bare updates multiply by their organizations: these may fill, which pauses the intake.
    let (inboxes, writer_inboxes): (Vec<_>, Vec<_>) =
        (0..settings.database.writers).map(|_| mpsc::channel(held)).unzip();
    let (bare, router_inbox) = mpsc::channel(held);

    let abandon = over.child_token();
    let outlet = Outlet {
        settled: settled.clone(),
        refused,
        status: Arc::clone(&worker.status),
        over: over.clone(),
        abandon: abandon.clone(),
    };
    let mut tasks = JoinSet::new();
    for inbox in writer_inboxes {
        let lane = Lane::new(settings.database.clone());
        let backoff = Backoff::new(&settings.retry);
        tasks.spawn(
            Writer::new(inbox, size(settings), lane, outlet.clone(), backoff, settings.limits.max_attempts).run(),
        );
    }
    let writers = Writers(inboxes);
    let lane = Lane::new(settings.database.clone());
    tasks.spawn(route(router_inbox, lane, writers.clone(), outlet.clone(), Backoff::new(&settings.retry)));
    let posting = (Arc::clone(&worker.settings), topology, abandon.clone(), Arc::clone(&worker.status));
    tasks.spawn(async move {
        let (settings, topology, abandon, status) = posting;
        publish_letters(&settings, &topology, letters, settled, abandon, |count| {
            status.counts.dead_lettered.add(count);
        })
        .await;
    });

    let ledger = Ledger::new(held / 4);
    let session = Session { worker, intake, ledger, settlements, writers, bare, outlet, limits: limits(settings) };
    session.run(tasks, stop, &over, &abandon).await
}

fn size(settings: &Settings) -> Size {
    let settings::Batch { max_events, max_bytes, max_transaction_events } = settings.batch;
    Size { max_events, max_bytes, max_transaction_events }
}

fn limits(settings: &Settings) -> Limits {
    let settings::Limits { max_body_bytes, max_clock_skew, store_text, .. } = settings.limits;
    Limits { max_body_bytes, max_clock_skew, store_text }
}

struct Session<'a> {
    worker: &'a Worker,
    intake: Intake,
    ledger: Ledger,
    settlements: mpsc::Receiver<Vec<Receipt>>,
    writers: Writers,
    bare: mpsc::Sender<Bare>,
    outlet: Outlet,
    limits: Limits,
}

impl Session<'_> {
    async fn run(
        mut self,
        mut tasks: JoinSet<()>,
        stop: &CancellationToken,
        over: &CancellationToken,
        abandon: &CancellationToken,
    ) -> anyhow::Result<Stopped> {
        let mut consumed = self.consume(&mut tasks, stop).await;
        if consumed.is_ok() {
            abandon.cancel();
            consumed = self.take_left().await;
        }
        if consumed.is_err() {
            over.cancel();
        }
        let Self { mut intake, mut ledger, mut settlements, writers, bare, outlet, .. } = self;
        // Without these each stage ends when it has finished what it holds, and the next one after it.
        drop((writers, bare, outlet));
        let mut outcome = consumed;
        while let Some(receipts) = settlements.recv().await {
            ledger.settle(receipts);
            for ack in ledger.acks() {
                if outcome.is_ok() {
                    outcome = intake.ack(ack).await;
                }
            }
        }
        // What is still open waits for an outage or a merge to end, and goes back; nothing else does.
        if outcome.is_ok() {
            outcome = intake.ack_surely(&ledger.last_acks()).await;
        }
        while let Some(joined) = tasks.join_next().await {
            joined.context("a stage of the pipeline died")?;
        }
        if outcome.is_ok() && ledger.open() > 0 {
            tracing::warn!(events = ledger.open(), "not finished, left to the broker");
        }
        intake.close().await;
        outcome.map(|()| Stopped)
    }

    /// Takes deliveries and acks what is settled until told to stop.
    async fn consume(&mut self, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(receipts) = self.settlements.recv() => {
                    self.ledger.settle(receipts);
                    for ack in self.ledger.acks() {
                        self.intake.ack(ack).await?;
                    }
                }
                Some(joined) = tasks.join_next() => {
                    joined.context("a stage of the pipeline died")?;
                    return Err(anyhow!("a stage of the pipeline ended early"));
                }
                delivery = self.intake.next() => self.take(delivery?).await?,
            }
        }
    }

    /// Takes what was delivered before the broker heard of the stop: given back, it would count as
    /// redelivered, at every restart.
    async fn take_left(&mut self) -> anyhow::Result<()> {
        self.intake.cancel().await;
        while let Some(delivery) = self.intake.next_left().await {
            self.take(delivery).await?;
        }
        Ok(())
    }

    async fn take(&mut self, delivery: Delivery) -> anyhow::Result<()> {
        let Delivery { tag, body, routing_key, redelivered, delivery_count } = delivery;
        let receipt = self.ledger.enter(tag).ok_or_else(|| anyhow!("delivery tag {tag} came twice"))?;
        self.worker.status.counts.received.add(1);
        let letter = Letter { body, routing_key };
        let max_redeliveries = u64::from(self.worker.settings.limits.max_redeliveries);
        // Publishers can set the count, but not on a delivery that the broker itself repeats.
        if redelivered && delivery_count > max_redeliveries {
            let refusal = Refusal::new(
                Reason::Quarantined,
                format!("redelivered {delivery_count} times, {max_redeliveries} are allowed"),
            );
            self.outlet.refuse(Refused { letter, refusal, receipt }).await;
            return Ok(());
        }
        match decode(&letter.body, &self.limits, clock::now()) {
            Ok(None) => {
                self.worker.status.counts.ignored.add(1);
                self.ledger.settle([receipt]);
                for ack in self.ledger.acks() {
                    self.intake.ack(ack).await?;
                }
            }
            Ok(Some(event)) => match event.org {
                Some(org) => {
                    for share in Share::split(event, letter, receipt, 1) {
                        self.writers.send(org, share).await;
                    }
                }
                // As above: closed only when the session is over.
                None => drop(self.bare.send(Bare { event, letter, receipt }).await),
            },
            Err(refusal) => self.outlet.refuse(Refused { letter, refusal, receipt }).await,
        }
        Ok(())
    }
}
