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
    part: Part,
    /// Tries that failed for an unknown reason.
    pub(super) attempts: u32,
}

/// Most deliveries have one organization, and are its own.
#[derive(Debug)]
enum Part {
    Whole(Decoded),
    Shared(Arc<Shared>),
}

#[derive(Debug)]
struct Shared {
    decoded: Decoded,
    ticket: Mutex<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    open_shares: usize,
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

impl Decoded {
    fn end(self, refusal: Option<Box<Refusal>>) -> Settlement {
        let Self { opened, receipt, published_at } = self;
        match refusal {
            None => Settlement::Ack { receipt, published_at, at: opened.event().facts[0].version.at },
            Some(refusal) => {
                Settlement::Refuse(Box::new(Refused { letter: opened.into_owner(), refusal: *refusal, receipt }))
            }
        }
    }
}

impl Share {
    /// The only share of a delivery.
    pub(super) const fn whole(decoded: Decoded) -> Self {
        Self { part: Part::Whole(decoded), attempts: 0 }
    }

    /// As many shares of a delivery as its event has organizations, at least one.
    pub(super) fn split(decoded: Decoded, count: usize) -> impl Iterator<Item = Self> {
        let ticket = Mutex::new(Ticket { open_shares: count, refusal: None });
        let shared = Arc::new(Shared { decoded, ticket });
        std::iter::repeat_n(shared, count).map(|shared| Self { part: Part::Shared(shared), attempts: 0 })
    }

    fn decoded(&self) -> &Decoded {
        match &self.part {
            Part::Whole(decoded) => decoded,
            Part::Shared(shared) => &shared.decoded,
        }
    }

    pub(super) fn event(&self) -> &Event<'_> {
        self.decoded().opened.event()
    }

    pub(super) fn partition(&self) -> usize {
        self.decoded().receipt.partition
    }

    pub(super) fn body_bytes(&self) -> usize {
        self.decoded().opened.borrow_owner().body.len()
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
        let shared = match self.part {
            Part::Whole(decoded) => return Some(decoded.end(refusal)),
            Part::Shared(shared) => shared,
        };
        {
            let mut ticket = shared.ticket.lock().unwrap_or_else(PoisonError::into_inner);
            ticket.open_shares -= 1;
            ticket.refusal = ticket.refusal.take().or(refusal);
        }
        // Whoever holds it last gets it, and ends it unless a share was dropped.
        let Shared { decoded, ticket } = Arc::into_inner(shared)?;
        let Ticket { open_shares, refusal } = ticket.into_inner().unwrap_or_else(PoisonError::into_inner);
        (open_shares == 0).then(|| decoded.end(refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::{Chat, ChatKind, Fact, Few, Profile, Reason, User, Version, What},
        metrics::Metrics,
        settle::{AckLimits, Ledger},
    };

    fn shares(count: usize) -> Vec<Share> {
        let letter = Letter { body: b"body".to_vec(), routing_key: "key".into() };
        let limits = AckLimits { max_stuck: 1, max_settled: 1 };
        let receipt = Ledger::new(1, limits, Metrics::new().in_flight).enter(0, 1).unwrap();
        let profile = Profile::default();
        let chat = Chat { id: -1, kind: ChatKind::Group, title: None };
        let version = Version { at: 7, update_id: 1 };
        let fact = Fact { chat, user: User { id: 1, profile }, version, date: 7, source_id: 1, what: What::Join };
        let opened = Opened::new(letter, |_| Event { org: None, facts: Few::One(fact) });
        Share::split(Decoded { opened, receipt, published_at: None }, count).collect()
    }

    #[test]
    fn the_last_share_settles() {
        let mut shares = shares(3);
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(shares.pop().unwrap().applied().is_none());
        assert!(matches!(shares.pop().unwrap().applied(), Some(Settlement::Ack { at: 7, .. })));
    }

    #[test]
    fn a_share_that_is_dropped_leaves_its_delivery_unsettled() {
        for dropped in 0..3 {
            let mut shares = shares(3);
            drop(shares.remove(dropped));
            assert!(shares.into_iter().all(|share| share.applied().is_none()), "{dropped}");
        }
        let mut shares = shares(2);
        assert!(shares.remove(0).applied().is_none());
        drop(shares);
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
