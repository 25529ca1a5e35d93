//! The rows, each with its merge.

use super::content_version;
use crate::decode::{Fact, Message, Profile, Seconds, Version, What};

/// Keeps the newer of two versions of the same thing.
fn keep_newest<T>(kept: &mut T, other: T, version: impl Fn(&T) -> Version) {
    if version(&other) > version(kept) {
        *kept = other;
    }
}

/// What is known of a Telegram user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant<'a> {
    /// The newest names and their version.
    pub profile: Proposal<&'a Profile<'a>>,
    /// Least date of all facts.
    pub first_seen_at: Seconds,
    /// Greatest time of messages and edits.
    pub last_activity_at: Option<Seconds>,
}

/// A value that replaces an older version of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal<T> {
    /// How new it is.
    pub version: Version,
    /// What it is.
    pub value: T,
}

impl<'a> Participant<'a> {
    pub(super) fn of(fact: &'a Fact<'a>) -> Self {
        Self {
            profile: Proposal { version: fact.version, value: &fact.user.profile },
            first_seen_at: fact.date,
            last_activity_at: matches!(fact.what, What::Message(_)).then_some(fact.version.at),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        keep_newest(&mut self.profile, other.profile, |profile| profile.version);
        self.first_seen_at = self.first_seen_at.min(other.first_seen_at);
        self.last_activity_at = self.last_activity_at.max(other.last_activity_at);
    }
}

/// When somebody was in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Least date of all facts.
    pub first_seen_at: Seconds,
    /// Greatest date of joins.
    pub last_joined_at: Option<Seconds>,
    /// Greatest date of leaves.
    pub last_left_at: Option<Seconds>,
    /// Greatest date of messages; edits count at the original's date.
    pub last_message_at: Option<Seconds>,
    /// Greatest message id.
    pub newest_message_id: Option<i64>,
}

impl Membership {
    pub(super) fn of(fact: &Fact<'_>) -> Self {
        let date = Some(fact.date);
        let (last_joined_at, last_left_at, last_message_at) = match fact.what {
            What::Join => (date, None, None),
            What::Leave => (None, date, None),
            What::Message(_) => (None, None, date),
        };
        let newest_message_id = last_message_at.map(|_| fact.source_id);
        Self { first_seen_at: fact.date, last_joined_at, last_left_at, last_message_at, newest_message_id }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.first_seen_at = self.first_seen_at.min(other.first_seen_at);
        self.last_joined_at = self.last_joined_at.max(other.last_joined_at);
        self.last_left_at = self.last_left_at.max(other.last_left_at);
        self.last_message_at = self.last_message_at.max(other.last_message_at);
        self.newest_message_id = self.newest_message_id.max(other.newest_message_id);
    }
}

/// What is known of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// The newest title with the chat type of the same event; events without a title say nothing.
    pub titled: Option<Proposal<Titled<'a>>>,
    /// Greatest time of all facts.
    pub last_event_at: Seconds,
}

/// A title and what came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Titled<'a> {
    /// Never empty.
    pub title: &'a str,
    /// Telegram's name of the chat type.
    pub chat_type: &'static str,
}

impl<'a> Group<'a> {
    pub(super) fn of(fact: &'a Fact<'a>) -> Self {
        let titled = fact.chat.title.as_deref().map(|title| {
            let value = Titled { title, chat_type: fact.chat.kind.name() };
            Proposal { version: fact.version, value }
        });
        Self { titled, last_event_at: fact.version.at }
    }

    pub(super) fn merge(&mut self, other: Self) {
        match (&mut self.titled, other.titled) {
            (Some(kept), Some(other)) => keep_newest(kept, other, |titled| titled.version),
            (kept @ None, other) => *kept = other,
            (Some(_), None) => {}
        }
        self.last_event_at = self.last_event_at.max(other.last_event_at);
    }
}

/// One message, join or leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity<'a> {
    /// Its date; least, should a batch name two.
    pub occurred_at: Seconds,
    /// Greatest `edit_date`.
    pub edited_at: Option<Seconds>,
    /// Greatest thread named.
    pub thread_id: Option<i64>,
    /// Greatest reply named.
    pub reply_to: Option<i64>,
    /// The newest content and its version.
    pub content: Proposal<Content<'a>>,
    /// Greatest version of all facts.
    pub newest: Version,
}

/// What an edit replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content<'a> {
    /// The content field's name.
    pub media: Option<&'static str>,
    /// Text or caption.
    pub text: Option<&'a str>,
    /// UTF-16 code units.
    pub chars: i32,
    /// Links among the entities.
    pub links: i32,
    /// Mentions among the entities.
    pub mentions: i32,
}

impl<'a> Content<'a> {
    fn of(message: &'a Message<'a>) -> Self {
        let Message { media, chars, links, mentions, .. } = *message;
        Self { media, text: message.text.as_deref(), chars, links, mentions }
    }
}

impl<'a> Activity<'a> {
    pub(super) fn of(fact: &'a Fact<'a>) -> Self {
        let message = match &fact.what {
            What::Message(message) => Some(message.as_ref()),
            What::Join | What::Leave => None,
        };
        Self {
            occurred_at: fact.date,
            edited_at: message.filter(|message| message.is_edit).map(|_| fact.version.at),
            thread_id: message.and_then(|message| message.thread_id),
            reply_to: message.and_then(|message| message.reply_to),
            content: Proposal { version: content_version(fact), value: message.map(Content::of).unwrap_or_default() },
            newest: fact.version,
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.occurred_at = self.occurred_at.min(other.occurred_at);
        self.edited_at = self.edited_at.max(other.edited_at);
        self.thread_id = self.thread_id.max(other.thread_id);
        self.reply_to = self.reply_to.max(other.reply_to);
        keep_newest(&mut self.content, other.content, |content| content.version);
        self.newest = self.newest.max(other.newest);
    }
}
