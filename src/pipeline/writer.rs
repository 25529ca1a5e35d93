//! A writer: takes what waits, applies it, and sees to what fails.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{queue::Exit, session::Outlet, ticket::Share};
use crate::{
    apply::{Applied, Lane, Wanted},
    batch::{Batch, Transaction, Trigger},
    database::Fault,
    decode::{Culprit, Fact, Reason, Refusal},
    metrics::Cause,
    retry::Backoff,
    sabotage::{Bug, is_on},
};

/// An organization in which people are merged right now, or whose rows are locked, is tried again after this.
const BUSY_WAIT: Duration = Duration::from_millis(50);

pub(super) struct Writer {
    queue: Exit,
    lane: Lane,
    outlet: Outlet,
    backoff: Backoff,
    max_attempts: u32,
}

/// The session is over or the worker stops, and waiting would be needed: what is left goes back.
struct Abandoned;

impl Writer {
    pub(super) const fn new(queue: Exit, lane: Lane, outlet: Outlet, backoff: Backoff, max_attempts: u32) -> Self {
        Self { queue, lane, outlet, backoff, max_attempts }
    }

    /// Writes until nothing more comes and nothing waits.
    pub(super) async fn run(mut self) {
        loop {
            let mut taken = self.queue.take_now(self.lane.claimed());
            if taken.is_none() {
                self.lane.give_back().await;
                taken = self.queue.take(&self.outlet.over, &self.outlet.abandon).await;
            }
            let Some(Transaction { batches, hold, wanted, is_crowded }) = taken else { break };
            let partitions = wanted.into_iter().filter_map(|partition| partition.try_into().ok()).collect();
            let wanted = Wanted { partitions, claims: is_crowded };
            if self.apply(batches, &wanted).await.is_err() || self.outlet.over.is_cancelled() {
                break;
            }
            self.queue.release(hold);
        }
    }

    /// Applies batches in one transaction, and in smaller ones where that fails, until each event is
    /// written, refused or deferred.
    async fn apply(&mut self, batches: Vec<Batch<Share>>, wanted: &Wanted) -> Result<(), Abandoned> {
        let mut transactions = vec![batches];
        while let Some(batches) = transactions.pop() {
            match self.try_apply(&batches, wanted).await {
                Ok(applied) => {
                    self.outlet.status.database_works();
                    if applied.met {
                        self.outlet.status.metrics.met.inc();
                    }
                    if applied.met || applied.others {
                        self.queue.met();
                    }
                    if applied.known {
                        self.outlet.status.metrics.known.inc();
                    }
                    let mut settlements = Vec::new();
                    for batch in batches {
                        if applied.busy.contains(&batch.org) {
                            self.outlet.status.metrics.retries.inc(Cause::Merge);
                            self.queue.defer(batch, Instant::now() + BUSY_WAIT);
                        } else if applied.unknown.contains(&batch.org) {
                            let refusal = Refusal::unknown_org(batch.org);
                            self.refuse(batch, &refusal).await;
                        } else {
                            settlements.extend(batch.events.into_iter().filter_map(Share::applied));
                        }
                    }
                    self.outlet.settle(settlements).await;
                }
                Err(fault) if fault.is_outage() => {
                    let wait = self.backoff.next_wait();
                    self.outlet.status.database_fails(&fault, wait);
                    self.outlet.wait(wait).await.ok_or(Abandoned)?;
                    transactions.push(batches);
                }
                Err(fault) => {
                    tracing::debug!(error = %fault, organizations = batches.len(), "transaction failed");
                    self.outlet.status.metrics.retries.inc(Cause::Database(fault.kind()));
                    self.isolate(batches, fault, &mut transactions).await;
                }
            }
        }
        Ok(())
    }

    async fn try_apply(&mut self, batches: &[Batch<Share>], wanted: &Wanted) -> Result<Applied, Fault> {
        let metrics = &self.outlet.status.metrics;
        for batch in batches {
            metrics.batches.inc(batch.trigger);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            metrics.batch_events.observe(batch.events.len() as f64);
        }
        let mut facts: Vec<_> = batches.iter().flat_map(facts).collect();
        if is_on(Bug::FirstOrganization) {
            let first = batches[0].org;
            for (org, _) in &mut facts {
                *org = first;
            }
        }
        let begun = Instant::now();
        let mut applied = self.lane.apply_and_claim(&facts, wanted).await;
        if matches!(applied, Err(Fault::Conflict(_)) if is_on(Bug::ConflictIsDone))
            || matches!(applied, Err(Fault::Outage(_)) if is_on(Bug::NoAnswerIsDone))
        {
            applied = Ok(Applied::default());
        }
        metrics.transaction_seconds.observe(begun.elapsed().as_secs_f64());
        metrics.transactions.inc(applied.as_ref().err().map(Fault::kind));
        applied
    }

    /// Splits until the culprit stands alone. What the data breaks is found by halves: few transactions.
    /// What takes too long or waits for others is found by organization: few waits.
    async fn isolate(
        &mut self,
        mut batches: Vec<Batch<Share>>,
        fault: Fault,
        transactions: &mut Vec<Vec<Batch<Share>>>,
    ) {
        for batch in &mut batches {
            batch.trigger = Trigger::Split;
        }
        if batches.len() > 1 {
            if matches!(fault, Fault::Data(_)) {
                let second = batches.split_off(batches.len() / 2);
                transactions.extend([second, batches]);
            } else {
                transactions.extend(batches.into_iter().map(|batch| vec![batch]));
            }
            return;
        }
        let Some(mut batch) = batches.pop() else { return };
        if let Fault::Conflict(_) = fault {
            self.queue.defer(batch, Instant::now() + BUSY_WAIT);
        } else if batch.events.len() > 1 {
            let second = batch.events.split_off(batch.events.len() / 2);
            transactions.push(vec![Batch { events: second, ..batch.like(Trigger::Split) }]);
            transactions.push(vec![batch]);
        } else if matches!(&fault, Fault::Data(rejection) if rejection.is_missing_reference())
            && batch.events.iter().all(|share| share.attempts == 0)
        {
            // Perhaps the organization was deleted meanwhile; then it is an unknown one.
            for share in &mut batch.events {
                share.attempts = 1;
            }
            transactions.push(vec![batch]);
        } else if let Fault::Data(rejection) = fault {
            self.refuse(batch, &Refusal::from(&rejection)).await;
        } else {
            let attempts = batch.events.first_mut().map_or(0, |share| {
                share.attempts += 1;
                share.attempts
            });
            if attempts < self.max_attempts {
                self.queue.defer(batch, Instant::now() + self.backoff.next_wait());
            } else {
                let detail = format!("failed {attempts} times: {fault}");
                let culprit = fault.rejection().map(Culprit::from).unwrap_or_default();
                let refusal = Refusal { culprit, ..Refusal::new(Reason::RetriesExhausted, detail) };
                self.refuse(batch, &refusal).await;
            }
        }
    }

    async fn refuse(&mut self, batch: Batch<Share>, refusal: &Refusal) {
        let refused = batch.events.into_iter().filter_map(|share| share.refused(refusal.clone()));
        self.outlet.settle(refused).await;
    }
}

fn facts(batch: &Batch<Share>) -> impl Iterator<Item = (Uuid, &Fact<'_>)> {
    batch.events.iter().flat_map(|share| &share.event().facts).map(|fact| (batch.org, fact))
}
