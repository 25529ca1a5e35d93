//! A session: what lives and dies with one consuming connection. Receipts of one session mean nothing to
//! the next, so no ack can ever reach a channel that its delivery did not come by.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use futures_util::FutureExt as _;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Worker,
    prepare::Prepared,
    queue::{Entry, queue},
    router::route,
    suspects::{Suspects, Taken, Turn},
    ticket::{Decoded, Opened, Settlement, Share},
    writer::Writer,
};
use crate::{
    apply::Lane,
    batch::{Batcher, Size},
    clock,
    consume::{Delivery, Intake, priority},
    decode::{Limits, Reason, Refusal},
    failure::Died,
    metrics::{Deliveries, Metrics},
    retry::Backoff,
    sabotage::{self, Bug, is_on},
    settings::{self, Settings},
    settle::{Ack, AckLimits, Ledger, Letter, Outcome, Receipt, Refused, Settled, publish_letters},
    status::Status,
};

/// Deliveries that are taken between two looks at what else there is to do.
const READY: usize = 64;
/// So long nothing is taken when all that was there is, and no writer waits for the next one: to wake up for each delivery costs as
/// much as to decode it. A timer of the runtime is no finer.
const REST: Duration = Duration::from_millis(1);
/// Deliveries that one ack settles: the broker takes an ack and delivers as many others at once, which costs it more for
/// each the more they are.
const MOST_ACKED: u64 = 250;

const A_STAGE_DIED: Died = Died("a stage of the pipeline");

/// The way out: where every stage sends what is settled or refused.
#[derive(Clone)]
pub(super) struct Outlet {
    settled: mpsc::Sender<Settled>,
    refused: mpsc::Sender<Refused>,
    pub(super) status: Arc<Status>,
    /// The connection is gone: nothing can be settled any more.
    pub(super) over: CancellationToken,
    /// The session is over or the worker stops: nothing is waited for any more.
    pub(super) abandon: CancellationToken,
}

impl Outlet {
    pub(super) async fn settle(&self, settlements: impl IntoIterator<Item = Settlement>) {
        let mut receipts = Vec::new();
        let now = clock::now_ms();
        // Counted here and told once: several threads share the metrics.
        let publish_to_commit = self.status.metrics.publish_to_commit.local();
        let telegram_to_commit = self.status.metrics.telegram_to_commit.local();
        for settlement in settlements {
            match settlement {
                Settlement::Ack { receipt, published_at, at } => {
                    if let Some(lag) = published_at.and_then(|published_at| now.checked_sub(published_at)) {
                        publish_to_commit.observe(seconds(lag.max(0)));
                    }
                    telegram_to_commit.observe(seconds((now - at * 1000).max(0)).floor());
                    receipts.push(receipt);
                }
                Settlement::Refuse(refused) => self.refuse(*refused).await,
            }
        }
        publish_to_commit.flush();
        telegram_to_commit.flush();
        self.send(Outcome::Applied, receipts).await;
    }

    async fn send(&self, outcome: Outcome, receipts: Vec<Receipt>) {
        if !receipts.is_empty() {
            // Both channels close only when the session is over, and the broker delivers again.
            let _ = self.settled.send(Settled { outcome, receipts }).await;
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

#[expect(clippy::cast_precision_loss, reason = "a time, far below 2^53")]
const fn seconds(time: clock::Milliseconds) -> f64 {
    time as f64 / 1000.0
}

/// Why a session ended without an error.
pub(super) struct Stopped;

/// Consumes until the worker stops, then finishes what was begun; or until the connection breaks.
pub(super) async fn run(
    worker: &Worker,
    Prepared { lanes, connected }: Prepared,
    stop: &CancellationToken,
) -> anyhow::Result<Stopped> {
    let settings = &worker.settings;
    let topology = connected.topology.clone();
    let intake = Intake::open(connected, &settings.broker, &worker.replica).await?;
    let priorities: Vec<_> =
        topology.event_queues().enumerate().map(|(partition, _)| priority(&worker.replica, partition)).collect();
    let deliveries = worker.status.metrics.consumes(priorities);
    worker.status.broker_works();
    tracing::info!(replica = worker.replica, partitions = topology.event_queues().count(), "consuming");

    let over = CancellationToken::new();
    let (partitions, prefetch) = (topology.event_queues().count(), settings.broker.prefetch);
    let held = usize::from(prefetch) * partitions;
    // Each message holds at least one unsettled delivery, of which there are `held`: these two never fill.
    let (settled, settlements) = mpsc::channel(held);
    let (refused, letters) = mpsc::channel(held);
    let batcher = Batcher::new(partitions, size(settings));
    // Bare updates multiply by their organizations: the router waits for room, which keeps their deliveries unsettled.
    let (entry, exits) = queue(batcher, held, settings.database.writers);
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
    for (exit, lane) in exits.into_iter().zip(lanes) {
        let backoff = Backoff::new(&settings.retry);
        tasks.spawn(Writer::new(exit, lane, outlet.clone(), backoff, settings.limits.max_attempts).run());
    }
    let lane = Lane::new(settings.database.clone());
    tasks.spawn(route(router_inbox, lane, entry.clone(), outlet.clone(), Backoff::new(&settings.retry)));
    let posting = (Arc::clone(&worker.settings), topology, abandon.clone(), Arc::clone(&worker.status));
    tasks.spawn(async move {
        let (settings, topology, abandon, status) = posting;
        publish_letters(&settings, &topology, letters, settled, abandon, &status).await;
    });

    let session = Session {
        worker,
        intake,
        deliveries,
        suspects: Suspects::default(),
        ledger: Ledger::new(partitions, ack_limits(prefetch), worker.status.metrics.in_flight.clone()),
        settlements,
        entry,
        bare,
        outlet,
        limits: Limits::from(&settings.limits),
    };
    session.run(tasks, stop, &over, &abandon).await
}

/// How much leaves at once.
#[must_use]
pub fn size(settings: &Settings) -> Size {
    let settings::Batch { max_events, max_bytes, max_transaction_events } = settings.batch;
    let worthwhile = max_transaction_events.min(settings.broker.prefetch.into()) / 2;
    Size { max_events, max_bytes, max_transaction_events, worthwhile }
}

/// Settled deliveries of a partition may wait for one before them: its writers are seldom done at the same time, and
/// acks one by one cost the broker as much as the events.
fn ack_limits(prefetch: u16) -> AckLimits {
    AckLimits { max_stuck: usize::from(prefetch) * 3 / 4, max_settled: MOST_ACKED }
}

struct Session<'a> {
    worker: &'a Worker,
    intake: Intake,
    deliveries: Deliveries,
    suspects: Suspects,
    ledger: Ledger,
    settlements: mpsc::Receiver<Settled>,
    entry: Entry,
    bare: mpsc::Sender<Decoded>,
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
        let Self { worker, mut intake, mut ledger, mut settlements, entry, bare, outlet, suspects, .. } = self;
        let metrics = &worker.status.metrics;
        // Without these each stage ends when it has finished what it holds, and the next one after it.
        drop((entry, bare, outlet, suspects));
        let mut outcome = consumed;
        while let Some(settled) = settlements.recv().await {
            count(metrics, &settled);
            ledger.settle(settled.receipts);
            if outcome.is_ok() {
                outcome = send_acks(&mut intake, metrics, &ledger.acks()).await;
            }
        }
        // What is still open waits for an outage or a merge to end, and goes back; nothing else does.
        if outcome.is_ok() {
            let acks = ledger.all_acks();
            metrics.acked.inc_by(acks.iter().map(|ack| ack.count).sum());
            outcome = intake.ack_surely(&acks).await;
        }
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(|_| A_STAGE_DIED)?;
        }
        if outcome.is_ok() && ledger.open() > 0 {
            tracing::warn!(events = ledger.open(), "not finished, left to the broker");
        }
        metrics.returned.inc_by(ledger.unacked() as u64);
        intake.close().await;
        outcome.map(|()| Stopped)
    }

    /// Takes deliveries and acks what is settled until told to stop.
    async fn consume(&mut self, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut rests = false;
        loop {
            let turn = self.suspects.turn(|| self.ledger.open(), Instant::now());
            let (takes_more, wake_at) = match turn {
                Turn::All { until } => (true, until),
                Turn::Settle { until } => (false, Some(until)),
                Turn::Suspect(suspect) => {
                    self.worker.status.metrics.suspects.inc();
                    self.decode(suspect).await?;
                    continue;
                }
            };
            let wake = async { tokio::time::sleep_until(wake_at.unwrap_or_else(Instant::now).into()).await };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some(settled) = self.settlements.recv() => {
                    self.settle(settled).await?;
                    rests = false;
                }
                Some(joined) = tasks.join_next() => {
                    joined.map_err(|_| A_STAGE_DIED)?;
                    return Err(anyhow!("a stage of the pipeline ended early"));
                }
                () = wake, if wake_at.is_some() => {}
                () = tokio::time::sleep(REST), if rests => rests = false,
                delivery = self.intake.next(), if takes_more && !rests => {
                    self.take(delivery?).await?;
                    rests = self.take_ready().await? && !self.entry.is_waited_for();
                }
            }
        }
    }

    /// Takes some of what is there already: to look at everything else after each delivery costs as much as the delivery.
    /// Whether that was all.
    async fn take_ready(&mut self) -> anyhow::Result<bool> {
        for _ in 0..READY {
            if !self.suspects.is_empty() {
                break;
            }
            let Some(delivery) = self.intake.next().now_or_never() else { return Ok(true) };
            self.take(delivery?).await?;
        }
        Ok(false)
    }

    /// Takes what was delivered before the broker heard of the stop: given back, it would count as
    /// redelivered, at every restart.
    async fn take_left(&mut self) -> anyhow::Result<()> {
        self.intake.cancel().await?;
        while let Some(delivery) = self.intake.next_left().await {
            self.take(delivery).await?;
        }
        // There is no time to handle each alone, and given back they would come once more.
        for suspect in self.suspects.take_all() {
            self.decode(suspect).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, settled: Settled) -> anyhow::Result<()> {
        count(&self.worker.status.metrics, &settled);
        self.ledger.settle(settled.receipts);
        let metrics = &self.worker.status.metrics;
        if self.suspects.is_empty() {
            return send_acks(&mut self.intake, metrics, &self.ledger.acks()).await;
        }
        // Before the next one is looked into, and perhaps ends the process, this one must count as settled.
        send_acks(&mut self.intake, metrics, &self.ledger.all_acks()).await?;
        self.intake.flush().await
    }

    async fn take(&mut self, delivery: Delivery) -> anyhow::Result<()> {
        let Delivery { partition, tag, body, routing_key, redelivered, delivery_count, published_at } = delivery;
        let receipt = self.ledger.enter(partition, tag).ok_or_else(|| anyhow!("delivery tag {tag} came twice"))?;
        self.deliveries.add(partition, redelivered);
        if is_on(Bug::AckBeforeCommit) {
            self.intake.ack(Ack { partition, tag, multiple: false, count: 1 }).await?;
        }
        let letter = Letter { body, routing_key };
        // Publishers can set the count, but not on a delivery that the broker itself repeats.
        let count = if redelivered { delivery_count } else { 0 };
        let limits = &self.worker.settings.limits;
        if count > u64::from(limits.max_redeliveries) {
            let detail = format!("redelivered {count} times, {} are allowed", limits.max_redeliveries);
            let refusal = Refusal::new(Reason::Quarantined, detail);
            self.outlet.refuse(Refused { letter, refusal, receipt }).await;
            return Ok(());
        }
        let taken = Taken { letter, receipt, published_at };
        if count >= u64::from(limits.careful_after.min(limits.max_redeliveries)) {
            self.suspects.set_aside(taken, Instant::now());
            return Ok(());
        }
        self.decode(taken).await
    }

    async fn decode(&mut self, taken: Taken) -> anyhow::Result<()> {
        let Taken { letter, mut receipt, published_at } = taken;
        sabotage::look_at(&letter.body);
        match Opened::read(letter, &self.limits, clock::now()) {
            Ok(opened) => {
                let org = opened.event().org;
                receipt.kind = opened.event().kind();
                let decoded = Decoded { opened, receipt, published_at };
                match org {
                    Some(org) => self.entry.push(org, Share::whole(decoded)),
                    // Closed only when the session is over.
                    None => drop(self.bare.send(decoded).await),
                }
            }
            Err((_, None)) => self.settle(Settled { outcome: Outcome::Ignored, receipts: vec![receipt] }).await?,
            Err((letter, Some(refusal))) => self.outlet.refuse(Refused { letter, refusal: *refusal, receipt }).await,
        }
        Ok(())
    }
}

async fn send_acks(intake: &mut Intake, metrics: &Metrics, acks: &[Ack]) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for ack in acks.iter().filter(|_| !is_on(Bug::AckBeforeCommit)) {
        if outcome.is_ok() {
            outcome = intake.ack(*ack).await;
        }
        let counter = if outcome.is_ok() { &metrics.acked } else { &metrics.returned };
        counter.inc_by(ack.count);
    }
    outcome
}

fn count(metrics: &Metrics, settled: &Settled) {
    for receipt in &settled.receipts {
        metrics.events(receipt.kind).inc(settled.outcome);
    }
}
