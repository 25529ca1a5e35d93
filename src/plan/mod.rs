//! Plan: the facts of some batches folded into the rows to write, no key twice, sorted by key.
//!
//! Pure. Every fold is a merge that is commutative, associative and idempotent: least, greatest, or
//! the newest version wins. Rows are sorted because two replicas that write the same rows in
//! different orders would deadlock.

mod rows;

use uuid::Uuid;

use crate::decode::{Fact, MAX_ID, Version, What};
pub use rows::{Activity, Content, Group, Membership, Participant, Proposal, Titled};

/// A Telegram user in an organization.
pub type UserKey = (Uuid, i64);
/// A chat of an organization.
pub type ChatKey = (Uuid, i64);
/// A row of `activity_events`: organization, Telegram user, chat, event type, source id.
pub type ActivityKey = (Uuid, i64, i64, &'static str, i64);

/// Rows with their keys, in the order of these, none twice.
pub type Rows<K, V> = Vec<(K, V)>;

/// The rows that some facts of some organizations propose.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan<'a> {
    /// People, before it is known which participants they are.
    pub participants: Rows<UserKey, Participant<'a>>,
    /// Their places in chats, by user and chat.
    pub memberships: Rows<(UserKey, i64), Membership>,
    /// What happened.
    pub activity: Rows<ActivityKey, Activity<'a>>,
    /// The chats.
    pub groups: Rows<ChatKey, Group<'a>>,
}

impl<'a> Plan<'a> {
    /// Folds facts, each with its organization, in any order.
    pub fn fold(facts: impl IntoIterator<Item = (Uuid, &'a Fact<'a>)>) -> Self {
        let keyed = |(org, fact): (Uuid, &'a Fact<'a>)| {
            ((org, fact.user.id, fact.chat.id, fact.what.name(), fact.source_id), fact)
        };
        let mut facts: Vec<(ActivityKey, &Fact<'_>)> = facts.into_iter().map(keyed).collect();
        let mut plan = Self::default();
        // One order serves three tables: the keys of the others are beginnings of this one.
        facts.sort_unstable_by_key(|(key, _)| *key);
        plan.activity.reserve_exact(facts.len());
        for (key, fact) in &facts {
            let (org, user, chat, ..) = *key;
            fold_into(&mut plan.participants, (org, user), Participant::of(fact), Participant::merge);
            fold_into(&mut plan.memberships, ((org, user), chat), Membership::of(fact), Membership::merge);
            fold_into(&mut plan.activity, *key, Activity::of(fact), Activity::merge);
        }
        let chat_key = |(org, _, chat, ..): &ActivityKey| (*org, *chat);
        facts.sort_unstable_by_key(|(key, _)| chat_key(key));
        for (key, fact) in &facts {
            fold_into(&mut plan.groups, chat_key(key), Group::of(fact), Group::merge);
        }
        plan
    }

    /// The organizations, sorted.
    #[must_use]
    pub fn orgs(&self) -> Vec<Uuid> {
        let mut orgs: Vec<_> = self.participants.iter().map(|((org, _), _)| *org).collect();
        orgs.dedup();
        orgs
    }

    /// Whether the newest that is told of anybody came with an event whose version one of the activities keeps, so that who wrote these
    /// activities wrote that too.
    #[must_use]
    pub fn is_told_by_activity(&self) -> bool {
        self.activity.iter().all(|(_, activity)| version_of_event(activity.content.version) == activity.newest)
    }
}

/// Adds a row whose key is not less than those before it.
fn fold_into<K: PartialEq, V>(rows: &mut Rows<K, V>, key: K, row: V, merge: impl FnOnce(&mut V, V)) {
    match rows.last_mut() {
        Some((last, kept)) if *last == key => merge(kept, row),
        _ => rows.push((key, row)),
    }
}

/// The version of what a fact says of its message: any edit beats the original, whichever arrives first, also in the same second.
const fn content_version(fact: &Fact<'_>) -> Version {
    match &fact.what {
        What::Message(message) if message.is_edit => fact.version,
        _ => Version { at: fact.date, update_id: fact.version.update_id - MAX_ID - 1 },
    }
}

/// The version of the fact that a content came with.
const fn version_of_event(Version { at, update_id }: Version) -> Version {
    Version { at, update_id: if update_id < 0 { update_id + MAX_ID + 1 } else { update_id } }
}
