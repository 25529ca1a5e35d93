//! Decode: bytes become an [`Event`], or a [`Refusal`] that says why they never can.
//!
//! Pure. What is looked at, in this order: size, JSON, envelope, whether the update holds a fact at
//! all, types and missing fields, ranges. Whether the organization exists is for the database to say.

mod envelope;
mod fact;
mod few;
mod field;
mod refusal;
mod repair;
mod shape;
mod update;

use std::{borrow::Cow, str::FromStr, time::Duration};

use serde::de::IgnoredAny;
use uuid::Uuid;

use envelope::Envelope;
pub use envelope::org_of;
pub use fact::{Chat, ChatKind, Fact, Message, Profile, User, Version, What};
pub use few::Few;
pub use refusal::{Culprit, Reason, Refusal};
use repair::{malformed, repair, tame_numbers};

/// Unix time in whole seconds.
pub type Seconds = i64;

/// The greatest id of a user, message, thread or update; that of a chat without its sign.
pub(crate) const MAX_ID: i64 = 1 << 53;

/// What an event may be at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest body, in bytes.
    pub max_body_bytes: usize,
    /// How far ahead of the worker's clock a date may be.
    pub max_clock_skew: Duration,
    /// Whether message texts are kept in the rows.
    pub store_text: bool,
}

/// What an event tells of, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// An edit of a message.
    Edit,
    /// People who came.
    Join,
    /// Somebody who went.
    Leave,
    /// No fact was found, or nobody looked.
    None,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Message, Self::Edit, Self::Join, Self::Leave, Self::None];

    /// As it stands in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Edit => "edit",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::None => "none",
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownKind)
    }
}

/// A name that no kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no kind of event")]
pub struct UnknownKind;

/// A body that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The organization that the envelope names; `None` for a bare update, which belongs to every
    /// organization that has the chat.
    pub org: Option<Uuid>,
    /// At least one, all of the same chat.
    pub facts: Few<Fact<'a>>,
}

impl Event<'_> {
    /// Independent of the body that it was read from.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        Event { org: self.org, facts: self.facts.map(Fact::into_owned) }
    }

    /// The chat that the event happened in.
    ///
    /// # Panics
    ///
    /// On an event without facts, which [`decode`] never returns.
    #[must_use]
    pub fn chat_id(&self) -> i64 {
        self.facts[0].chat.id
    }

    /// What its facts tell of; those of one event are of one kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.facts.first().map(|fact| &fact.what) {
            Some(What::Message(message)) if message.is_edit => Kind::Edit,
            Some(What::Message(_)) => Kind::Message,
            Some(What::Join) => Kind::Join,
            Some(What::Leave) => Kind::Leave,
            None => Kind::None,
        }
    }

    /// What it is published with: the organization's id; for a bare update, whose key is free, the chat's.
    #[must_use]
    pub fn routing_key(&self) -> String {
        self.org.map_or_else(|| self.chat_id().to_string(), |org| org.to_string())
    }
}

/// Reads one body; `None` for an update that holds no fact. Only texts with escapes are copied, and all of a body that had to be
/// repaired.
///
/// # Errors
///
/// The refusal that belongs into the dead letters. Its detail names paths and numbers, never text.
pub fn decode<'a>(body: &'a [u8], limits: &Limits, now: Seconds) -> Result<Option<Event<'a>>, Refusal> {
    if body.len() > limits.max_body_bytes {
        let detail = format!("{} bytes, at most {} are taken", body.len(), limits.max_body_bytes);
        return Err(Refusal::new(Reason::TooLarge, detail));
    }
    match repair(body)? {
        Cow::Borrowed(text) => parse(text, limits, now),
        Cow::Owned(text) => Ok(parse(&text, limits, now)?.map(Event::into_owned)),
    }
}

fn parse<'a>(text: &'a str, limits: &Limits, now: Seconds) -> Result<Option<Event<'a>>, Refusal> {
    let malformed = |error: serde_json::Error| malformed(error.to_string());
    if let Ok(envelope) = envelope::parse(text) {
        return event(envelope?, limits, now);
    }
    // The readers of fields take every value but a number that the parser cannot hold, or that it may have made a
    // float. That is JSON all the same, and perhaps stands where nobody looks; what is no JSON tells why itself.
    serde_json::from_str::<IgnoredAny>(text).map_err(malformed)?;
    let tamed = tame_numbers(text);
    let envelope = envelope::parse(&tamed).map_err(malformed)?;
    Ok(event(envelope?, limits, now)?.map(Event::into_owned))
}

fn event<'a>(envelope: Envelope<'a>, limits: &Limits, now: Seconds) -> Result<Option<Event<'a>>, Refusal> {
    let Envelope { org, update } = envelope;
    Ok(update::facts(update, limits, now)?.map(|facts| Event { org, facts }))
}
