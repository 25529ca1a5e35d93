//! The outermost object: an envelope that names its organization, or a bare update.

use std::borrow::Cow;

use serde_json::Deserializer;
use uuid::Uuid;

use super::{
    Reason, Refusal,
    field::{Field, Integer, Value, object},
    repair::repair,
    shape::{ChatMember, Content, Update},
};

object! {
    /// Both forms at once: which of them it is depends on the keys.
    struct Body<'a> {
        "org_id" => org_id: Cow<'a, str>,
        "update" => update: Update<'a>,
        "update_id" => update_id: Integer,
        "message" => message: Box<Content<'a>>,
        "edited_message" => edited_message: Box<Content<'a>>,
        "chat_member" => chat_member: Box<ChatMember<'a>>,
    }
}

object! {
    /// As little as a dead letter needs.
    struct Address<'a> {
        "org_id" => org_id: Cow<'a, str>,
    }
}

pub(super) struct Envelope<'a> {
    /// `None` for a bare update.
    pub(super) org: Option<Uuid>,
    pub(super) update: Update<'a>,
}

/// Reads the whole text as one envelope or bare update.
pub(super) fn parse(text: &str) -> serde_json::Result<Result<Envelope<'_>, Refusal>> {
    whole(text).map(open)
}

fn open(body: Field<Body<'_>>) -> Result<Envelope<'_>, Refusal> {
    match body {
        Field::Is(body) => body.open(),
        _ => Err(Refusal::new(Reason::InvalidEnvelope, "the body is no object")),
    }
}

fn whole<'a, T: Value<'a>>(text: &'a str) -> serde_json::Result<Field<T>> {
    let mut json = Deserializer::from_str(text);
    let value = T::read(&mut json)?;
    json.end()?;
    Ok(value)
}

impl<'a> Body<'a> {
    fn open(self) -> Result<Envelope<'a>, Refusal> {
        // A null org_id makes an envelope too: a producer that lost it must not reach every
        // organization that has the chat.
        if matches!((&self.org_id, &self.update), (Field::Missing, Field::Missing)) {
            let Self { update_id, message, edited_message, chat_member, .. } = self;
            let update = Update { update_id, message, edited_message, chat_member, ..Update::default() };
            return Ok(Envelope { org: None, update });
        }
        let org = self.org_id.required("org_id")?;
        let org = parse_uuid(&org).ok_or_else(|| Refusal::at(Reason::InvalidEnvelope, "org_id", "is no UUID"))?;
        Ok(Envelope { org: Some(org), update: self.update.required("update")? })
    }
}

/// The organization that a body names, if it can be read that far: for bodies that were refused.
#[must_use]
pub fn org_of(body: &[u8], max_body_bytes: usize) -> Option<Uuid> {
    if body.len() > max_body_bytes {
        return None;
    }
    match whole::<Address<'_>>(&repair(body).ok()?).ok()? {
        Field::Is(Address { org_id: Field::Is(org), .. }) => parse_uuid(&org),
        _ => None,
    }
}

/// Only the 8-4-4-4-12 form; the parser would take others too.
fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}
