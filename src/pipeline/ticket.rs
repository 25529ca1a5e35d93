//! One delivery may be applied to several organizations; it is settled when all of them are done.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    decode::{Event, Refusal},
    settle::{Letter, Receipt, Refused},
};

/// One organization's part of a delivery. Exactly one of its two ends is reached, by move.
#[derive(Debug)]
#[must_use = "a share that is dropped leaves its delivery unsettled"]
pub(super) struct Share {
    event: Arc<Event>,
    ticket: Arc<Mutex<Ticket>>,
    pub(super) body_bytes: usize,
    /// Tries that failed for an unknown reason.
    pub(super) attempts: u32,
}

#[derive(Debug)]
struct Ticket {
    open_shares: usize,
    letter: Letter,
    receipt: Option<Receipt>,
    refusal: Option<Refusal>,
}

/// How a delivery ends.
#[derive(Debug)]
pub(super) enum Settlement {
    Ack(Receipt),
    Refuse(Refused),
}

impl Share {
    /// As many shares of an event as it has organizations, at least one.
    pub(super) fn split(event: Event, letter: Letter, receipt: Receipt, count: usize) -> Vec<Self> {
        let event = Arc::new(event);
        let body_bytes = letter.body.len();
        let ticket = Arc::new(Mutex::new(Ticket { open_shares: count, letter, receipt: Some(receipt), refusal: None }));
        let share = || Self { event: Arc::clone(&event), ticket: Arc::clone(&ticket), body_bytes, attempts: 0 };
        (0..count).map(|_| share()).collect()
    }

    pub(super) fn event(&self) -> &Event {
        &self.event
    }

    /// The rows are committed. Returns how the delivery ends if this was its last share.
    pub(super) fn applied(self) -> Option<Settlement> {
        self.close(None)
    }

    /// This organization will never take it. One refusal refuses the delivery; to those organizations
    /// that took it, a replay changes nothing.
    pub(super) fn refused(self, refusal: Refusal) -> Option<Settlement> {
        self.close(Some(refusal))
    }

    fn close(self, refusal: Option<Refusal>) -> Option<Settlement> {
        let mut ticket = self.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket.open_shares -= 1;
        ticket.refusal = ticket.refusal.take().or(refusal);
        if ticket.open_shares > 0 {
            return None;
        }
        let receipt = ticket.receipt.take()?;
        Some(match ticket.refusal.take() {
            None => Settlement::Ack(receipt),
            Some(refusal) => {
                let letter = mem::replace(&mut ticket.letter, Letter { body: Vec::new(), routing_key: String::new() });
                Settlement::Refuse(Refused { letter, refusal, receipt })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode::Reason, settle::Ledger};

    fn shares(count: usize) -> Vec<Share> {
        let letter = Letter { body: b"body".to_vec(), routing_key: "key".into() };
        let receipt = Ledger::new(1).enter(1).unwrap();
        Share::split(Event { org: None, facts: Vec::new() }, letter, receipt, count)
    }

    #[test]
    fn the_last_share_settles() {
        let mut shares = shares(3);
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(matches!(shares.pop().unwrap().applied(), Some(Settlement::Ack(_))));
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
