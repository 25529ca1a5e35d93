//! Publishing dead letters: the receipt is given back only when a queue has the letter.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Receipt, Settled};
use crate::{
    broker::{self, PublishError, Publisher, Topology},
    decode::Refusal,
    retry::Backoff,
    sabotage::{Bug, is_on},
    settings::Settings,
    status::Status,
};

/// What is kept of an event until it is settled: enough for a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The exact bytes.
    pub body: Vec<u8>,
    /// As published.
    pub routing_key: String,
}

/// A refused event on its way to the dead letters.
#[derive(Debug)]
pub struct Refused {
    /// What it was.
    pub letter: Letter,
    /// Why.
    pub refusal: Refusal,
    /// For settling the delivery afterwards.
    pub receipt: Receipt,
}

/// Letters that are published before their confirms are awaited.
const WINDOW: usize = 64;
/// A queue that was deleted is declared again no earlier than this: it took RabbitMQ 3.10.8 40 ms to tell its consumers, and those
/// of a queue that is there again by then are told nothing, and get nothing until they consume anew.
const GONE: Duration = Duration::from_millis(500);

/// Publishes refused events until `refused` closes, each as often as it takes, and hands their receipts
/// to `settled`. Gives up what is left when `abandon` is cancelled while the broker is away.
pub async fn publish_letters(
    settings: &Settings,
    topology: &Topology,
    mut refused: mpsc::Receiver<Refused>,
    settled: mpsc::Sender<Settled>,
    abandon: CancellationToken,
    status: &Status,
) {
    let mut post = Post { settings, topology, status, publisher: None, losses: 0, is_gone: false };
    let mut backoff = Backoff::new(&settings.retry);
    let mut waiting = Vec::new();
    while !waiting.is_empty() || refused.recv_many(&mut waiting, WINDOW).await > 0 {
        let (receipts, failed) = post.publish(std::mem::take(&mut waiting)).await;
        let settlement = Settled { outcome: Outcome::DeadLettered, receipts };
        if !settlement.receipts.is_empty() && settled.send(settlement).await.is_err() {
            break;
        }
        let Some((error, left)) = failed else {
            status.dead_letters_work();
            continue;
        };
        waiting = left;
        let wait = backoff.next_wait().max(if post.is_gone { GONE } else { Duration::ZERO });
        status.dead_letters_fail(&error, waiting.len(), wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = abandon.cancelled() => break,
        }
    }
    if let Some(publisher) = post.publisher {
        publisher.close().await;
    }
}

struct Post<'a> {
    settings: &'a Settings,
    topology: &'a Topology,
    status: &'a Status,
    publisher: Option<Publisher>,
    /// Of the dead queue, when the publisher was opened.
    losses: u64,
    /// Whether somebody deleted the queue; without it nothing would ever be routed.
    is_gone: bool,
}

impl Post<'_> {
    /// The receipts of what is published, and what is not, with the reason.
    async fn publish(&mut self, letters: Vec<Refused>) -> (Vec<Receipt>, Option<(String, Vec<Refused>)>) {
        if self.is_gone {
            if let Err(error) = broker::declare(&self.settings.broker).await {
                return (Vec::new(), Some((format!("{error:#}"), letters)));
            }
            self.is_gone = false;
        }
        let losses = self.status.dead_queue_losses();
        if self.losses != losses
            && let Some(publisher) = self.publisher.take()
        {
            publisher.close().await;
        }
        self.losses = losses;
        let publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => match Publisher::open(&self.settings.broker).await {
                Ok(publisher) => publisher,
                Err(error) => return (Vec::new(), Some((format!("{error:#}"), letters))),
            },
        };
        let exchange = self.topology.dead_exchange();
        let mut sent = Vec::new();
        for mut refused in letters {
            refused.refusal.kind = refused.receipt.kind;
            let confirm = publisher
                .send(&exchange, &refused.letter.routing_key, Some(&refused.refusal), &refused.letter.body)
                .await;
            sent.push((refused, confirm));
        }
        let (mut receipts, mut left, mut failure) = (Vec::new(), Vec::new(), None);
        for (refused, confirm) in sent {
            let outcome = match confirm {
                Ok(_) if is_on(Bug::NotConfirmed) => Ok(()),
                Ok(confirm) => confirm.confirmed().await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => {
                    tracing::debug!(
                        reason = refused.refusal.reason.code(),
                        detail = refused.refusal.detail,
                        "dead letter published"
                    );
                    self.status.metrics.dead_letters.inc(refused.refusal.reason);
                    receipts.push(refused.receipt);
                }
                Err(error) => {
                    left.push(refused);
                    failure = Some(error);
                }
            }
        }
        self.is_gone = matches!(failure, Some(PublishError::Unroutable(_)));
        if failure.is_none() {
            self.publisher = Some(publisher);
        } else {
            publisher.close().await;
        }
        (receipts, failure.map(|error| (error.to_string(), left)))
    }
}
