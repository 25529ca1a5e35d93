//! Plan: the facts of some batches folded into the rows to write, no key twice, sorted by key.
//!
//! Pure. Every fold is a merge that is commutative, associative and idempotent: least, greatest, or
//! the newest version wins. The maps are sorted because two replicas that write the same rows in
//! different orders would deadlock.

mod rows;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::decode::{Fact, Version, What};
pub use rows::{Activity, Content, Group, Membership, Participant, Proposal, Titled};

/// A Telegram user in an organization.
pub type UserKey = (Uuid, i64);
/// A chat of an organization.
pub type ChatKey = (Uuid, i64);
/// A row of `activity_events`: organization, Telegram user, chat, event type, source id.
pub type ActivityKey = (Uuid, i64, i64, &'static str, i64);

/// The rows that some facts of some organizations propose.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// People, before it is known which participants they are.
    pub participants: BTreeMap<UserKey, Participant<'a>>,
    /// Their places in chats, by user and chat.
    pub memberships: BTreeMap<(UserKey, i64), Membership>,
    /// What happened.
    pub activity: BTreeMap<ActivityKey, Activity<'a>>,
    /// The chats.
    pub groups: BTreeMap<ChatKey, Group<'a>>,
}

impl<'a> Plan<'a> {
    /// Folds facts, each with its organization, in any order.
    pub fn fold(facts: impl IntoIterator<Item = (Uuid, &'a Fact)>) -> Self {
        let mut plan = Self::default();
        for (org, fact) in facts {
            plan.add(org, fact);
        }
        plan
    }

    fn add(&mut self, org: Uuid, fact: &'a Fact) {
        let user = (org, fact.user.id);
        let chat = (org, fact.chat.id);
        self.participants
            .entry(user)
            .and_modify(|row| row.merge(Participant::of(fact)))
            .or_insert_with(|| Participant::of(fact));
        self.memberships
            .entry((user, fact.chat.id))
            .and_modify(|row| row.merge(Membership::of(fact)))
            .or_insert_with(|| Membership::of(fact));
        self.groups.entry(chat).and_modify(|row| row.merge(Group::of(fact))).or_insert_with(|| Group::of(fact));
        let key = (org, fact.user.id, fact.chat.id, fact.what.name(), fact.source_id);
        self.activity.entry(key).and_modify(|row| row.merge(Activity::of(fact))).or_insert_with(|| Activity::of(fact));
    }
}

/// The version of a message's content: any edit beats the original, whichever arrives first.
fn content_version(fact: &Fact) -> Version {
    match &fact.what {
        What::Message(message) if message.is_edit => fact.version,
        _ => Version { at: fact.date, update_id: 0 },
    }
}
