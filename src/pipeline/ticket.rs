//! One delivery may be applied to several organizations; it is settled when all of them are done.

use std::sync::{Arc, Mutex, PoisonError};

use self_cell::self_cell;

use crate::{
    clock::Milliseconds,
    decode::{Event, Limits, Refusal, Seconds, decode},
    settle::{Letter, Receipt, Refused},
};

self_cell!(
    /// A letter that holds an event, which has its texts from the letter's body.
    pub(super) struct Opened {
        owner: Letter,
        #[covariant]
        dependent: Event,
    }

    impl {Debug}
);

impl Opened {
    /// Gives the letter back where it holds no event, or one that is refused.
    pub(super) fn read(letter: Letter, limits: &Limits, now: Seconds) -> Result<Self, (Letter, Option<Box<Refusal>>)> {
        Self::try_new_or_recover(letter, |letter| {
            decode(&letter.body, limits, now).map_err(|refusal| Some(Box::new(refusal)))?.ok_or(None)
        })
    }

    pub(super) fn event(&self) -> &Event<'_> {
        self.borrow_dependent()
    }
}

/// A delivery that holds an event.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) opened: Opened,
    pub(super) receipt: Receipt,
    pub(super) published_at: Option<Milliseconds>,
}

/// One organization's part of a delivery. Exactly one of its two ends is reached, by move.
#[derive(Debug)]
#[must_use = "a share that is dropped leaves its delivery unsettled"]
pub(super) struct Share {
    shared: Arc<Shared>,
    pub(super) partition: usize,
    pub(super) body_bytes: usize,
    /// Tries that failed for an unknown reason.
    pub(super) attempts: u32,
}

#[derive(Debug)]
struct Shared {
    opened: Opened,
    published_at: Option<Milliseconds>,
    ticket: Mutex<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    open_shares: usize,
    receipt: Option<Receipt>,
    /// Seldom there, and longer than all else.
    refusal: Option<Box<Refusal>>,
}

/// How a delivery ends.
#[derive(Debug)]
pub(super) enum Settlement {
    Ack {
        receipt: Receipt,
        published_at: Option<Milliseconds>,
        /// When it happened, as Telegram says.
        at: Seconds,
    },
    /// Seldom, and much longer.
    Refuse(Box<Refused>),
}

impl Share {
    /// As many shares of an event as it has organizations, at least one.
    pub(super) fn split(decoded: Decoded, count: usize) -> impl Iterator<Item = Self> {
        let Decoded { opened, mut receipt, published_at } = decoded;
        receipt.kind = opened.event().kind();
        let (partition, body_bytes) = (receipt.partition, opened.borrow_owner().body.len());
        let ticket = Mutex::new(Ticket { open_shares: count, receipt: Some(receipt), refusal: None });
        let shared = Arc::new(Shared { opened, published_at, ticket });
        std::iter::repeat_n(shared, count).map(move |shared| Self { shared, partition, body_bytes, attempts: 0 })
    }

    pub(super) fn event(&self) -> &Event<'_> {
        self.shared.opened.event()
    }

    /// The rows are committed. Returns how the delivery ends if this was its last share.
    pub(super) fn applied(self) -> Option<Settlement> {
        self.close(None)
    }

    /// This organization will never take it. One refusal refuses the delivery; to those organizations
    /// that took it, a replay changes nothing.
    pub(super) fn refused(self, refusal: Refusal) -> Option<Settlement> {
        self.close(Some(Box::new(refusal)))
    }

    fn close(self, refusal: Option<Box<Refusal>>) -> Option<Settlement> {
        let Shared { opened, published_at, ticket } = &*self.shared;
        let mut ticket = ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket.open_shares -= 1;
        ticket.refusal = ticket.refusal.take().or(refusal);
        if ticket.open_shares > 0 {
            return None;
        }
        let receipt = ticket.receipt.take()?;
        Some(match ticket.refusal.take() {
            None => {
                let at = opened.event().facts.iter().map(|fact| fact.version.at).max().unwrap_or_default();
                Settlement::Ack { receipt, published_at: *published_at, at }
            }
            Some(refusal) => {
                let letter = opened.borrow_owner().clone();
                Settlement::Refuse(Box::new(Refused { letter, refusal: *refusal, receipt }))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Reason, metrics::Metrics, settle::Ledger};

    fn shares(count: usize) -> Vec<Share> {
        let letter = Letter { body: b"body".to_vec(), routing_key: "key".into() };
        let receipt = Ledger::new(1, 1, Metrics::new().in_flight).enter(0, 1).unwrap();
        let opened = Opened::new(letter, |_| Event { org: None, facts: Vec::new() });
        Share::split(Decoded { opened, receipt, published_at: None }, count).collect()
    }

    #[test]
    fn the_last_share_settles() {
        let mut shares = shares(3);
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(matches!(shares.pop().unwrap().applied(), Some(Settlement::Ack { .. })));
    }

    #[test]
    fn one_refusal_refuses_with_the_exact_body() {
        let mut shares = shares(2);
        assert!(shares.pop().unwrap().refused(Refusal::new(Reason::DatabaseRejected, "x")).is_none());
        let Some(Settlement::Refuse(refused)) = shares.pop().unwrap().applied() else { panic!("not refused") };
        assert_eq!(
            (refused.letter.body.as_slice(), refused.refusal.reason),
            (b"body".as_slice(), Reason::DatabaseRejected)
        );
    }
}
