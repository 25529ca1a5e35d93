//! Plan: the facts of some batches folded into the rows to write, no key twice, sorted by key.
//!
//! Pure. Every fold is a merge that is commutative, associative and idempotent: least, greatest, or
//! the newest version wins. The maps are sorted because two replicas that write the same rows in
//! different orders would deadlock.

mod rows;

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::decode::{Fact, Version, What};
pub use rows::{Activity, Content, Group, Membership, Participant, Proposal, Titled};

/// A Telegram user in an organization.
pub type UserKey = (Uuid, i64);
/// A chat of an organization.
pub type ChatKey = (Uuid, i64);
/// A participant's place in a chat: organization, participant, chat.
pub type MembershipKey = (Uuid, Uuid, i64);
/// A row of `activity_events`: organization, chat, event type, source id, Telegram user.
pub type ActivityKey = (Uuid, i64, &'static str, i64, i64);

/// Who every user resolved to.
pub type Resolution = HashMap<UserKey, Uuid>;

/// The rows that some facts of some organizations propose.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// People, before it is known which participants they are.
    pub participants: BTreeMap<UserKey, Participant<'a>>,
    /// Their places in chats, by user.
    memberships: BTreeMap<(UserKey, i64), Membership>,
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
        let key = (org, fact.chat.id, fact.what.name(), fact.source_id, fact.user.id);
        self.activity.entry(key).and_modify(|row| row.merge(Activity::of(fact))).or_insert_with(|| Activity::of(fact));
    }

    /// How many memberships, before it is known which participants they are.
    #[must_use]
    pub fn membership_count(&self) -> usize {
        self.memberships.len()
    }

    /// The memberships by participant: several users are one after a merge of people. `None` if
    /// somebody did not resolve.
    #[must_use]
    pub fn memberships(&self, resolution: &Resolution) -> Option<BTreeMap<MembershipKey, Membership>> {
        let mut rows = BTreeMap::<_, Membership>::new();
        for (&(user, chat), &membership) in &self.memberships {
            let key = (user.0, *resolution.get(&user)?, chat);
            rows.entry(key).and_modify(|row| row.merge(membership)).or_insert(membership);
        }
        Some(rows)
    }
}

/// The version of a message's content: any edit beats the original, whichever arrives first.
fn content_version(fact: &Fact) -> Version {
    match &fact.what {
        What::Message(message) if message.is_edit => fact.version,
        _ => Version { at: fact.date, update_id: 0 },
    }
}
