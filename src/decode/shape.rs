//! The parts of an update that are looked at, and what each says by itself.

use std::{borrow::Cow, collections::HashSet};

use serde::de::{IgnoredAny, SeqAccess};

use super::{
    ChatKind, Profile, Refusal,
    field::{Field, Given, Integer, Value, next_element, object},
};

/// Telegram itself, channels and anonymous administrators.
const SYSTEM_ACCOUNTS: [i64; 3] = [777_000, 136_817_688, 1_087_968_824];

object! {
    struct Update<'a> {
        "update_id" => update_id: Integer,
        "message" => message: Box<Content<'a>>,
        "edited_message" => edited_message: Box<Content<'a>>,
        "chat_member" => chat_member: Box<ChatMember<'a>>,
    }
}

object! {
    /// A message, new or edited.
    struct Content<'a> {
        "message_id" => message_id: Integer,
        "date" => date: Integer,
        "edit_date" => edit_date: Integer,
        "chat" => chat: Place<'a>,
        "from" => from: Person<'a>,
        "new_chat_members" => new_chat_members: Members<'a>,
        "left_chat_member" => left_chat_member: Person<'a>,
        "message_thread_id" => message_thread_id: Integer,
        "is_topic_message" => is_topic_message: bool,
        "reply_to_message" => reply_to_message: Reply<'a>,
        "text" => text: Cow<'a, str>,
        "caption" => caption: Cow<'a, str>,
        "entities" => entities: Entities,
        "caption_entities" => caption_entities: Entities,
        "animation" => animation: Given,
        "audio" => audio: Given,
        "checklist" => checklist: Given,
        "contact" => contact: Given,
        "dice" => dice: Given,
        "document" => document: Given,
        "game" => game: Given,
        "paid_media" => paid_media: Given,
        "photo" => photo: Given,
        "poll" => poll: Given,
        "sticker" => sticker: Given,
        "story" => story: Given,
        "venue" => venue: Given,
        "video" => video: Given,
        "video_note" => video_note: Given,
        "voice" => voice: Given,
        "location" => location: Given,
    }
}

object! {
    struct ChatMember<'a> {
        "date" => date: Integer,
        "chat" => chat: Place<'a>,
        "old_chat_member" => old: Membership<'a>,
        "new_chat_member" => new: Membership<'a>,
    }
}

object! {
    struct Membership<'a> {
        "status" => status: Cow<'a, str>,
        "is_member" => is_member: bool,
        "user" => user: Person<'a>,
    }
}

object! {
    struct Place<'a> {
        "id" => id: Integer,
        "type" => kind: Cow<'a, str>,
        "title" => title: Cow<'a, str>,
    }
}

object! {
    struct Person<'a> {
        "id" => id: Integer,
        "is_bot" => is_bot: bool,
        "username" => username: Cow<'a, str>,
        "first_name" => first_name: Cow<'a, str>,
        "last_name" => last_name: Cow<'a, str>,
    }
}

object! {
    struct Reply<'a> {
        "message_id" => message_id: Integer,
    }
}

object! {
    struct Entity<'a> {
        "type" => kind: Cow<'a, str>,
    }
}

impl<'a> Membership<'a> {
    /// The user, and whether somebody of this status is in the chat.
    pub(super) fn presence(self, path: &str) -> Result<(Field<Person<'a>>, bool), Refusal> {
        let is_present = match self.status.required(&format!("{path}.status"))?.as_ref() {
            "creator" | "administrator" | "member" => true,
            "restricted" => self.is_member.optional(&format!("{path}.is_member"))?.unwrap_or(false),
            _ => false,
        };
        Ok((self.user, is_present))
    }
}

impl Place<'_> {
    /// The chat with its type, if chats of this type count.
    pub(super) fn counted(mut self) -> Result<Option<(ChatKind, Self)>, Refusal> {
        let kind = std::mem::take(&mut self.kind).required("chat.type")?;
        Ok(match kind.as_ref() {
            "group" => Some((ChatKind::Group, self)),
            "supergroup" => Some((ChatKind::Supergroup, self)),
            _ => None,
        })
    }
}

pub(super) fn title(title: Field<Cow<'_, str>>) -> Result<Option<Cow<'_, str>>, Refusal> {
    Ok(non_empty(title.optional("chat.title")?))
}

fn non_empty(text: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.is_empty())
}

impl<'a> Person<'a> {
    /// Id and names, unless this is a bot or a system account.
    pub(super) fn counted(self) -> Result<Option<(Integer, Profile<'a>)>, Refusal> {
        let is_bot = self.is_bot.optional("user.is_bot")?.unwrap_or(false);
        let is_system = matches!(self.id, Field::Is(Some(id)) if SYSTEM_ACCOUNTS.contains(&id));
        if is_bot || is_system {
            return Ok(None);
        }
        let profile = Profile {
            username: non_empty(self.username.optional("user.username")?),
            first_name: non_empty(self.first_name.optional("user.first_name")?),
            last_name: non_empty(self.last_name.optional("user.last_name")?),
        };
        Ok(Some((self.id.required("user.id")?, profile)))
    }
}

/// The members of a join, judged one by one as they are read, so that a long list of anything else
/// takes no memory.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    is_empty: bool,
    people: Vec<(Integer, Profile<'a>)>,
    refusal: Option<Refusal>,
}

impl<'a> Members<'a> {
    pub(super) const fn is_some(&self) -> bool {
        !self.is_empty
    }

    pub(super) fn people(self) -> Result<Vec<(Integer, Profile<'a>)>, Refusal> {
        self.refusal.map_or(Ok(self.people), Err)
    }
}

impl<'a> Value<'a> for Members<'a> {
    fn from_array<A: SeqAccess<'a>>(mut array: A) -> Result<Field<Self>, A::Error> {
        let mut members = Self { is_empty: true, ..Self::default() };
        let mut seen = HashSet::new();
        while let Some(member) = next_element::<Person<'_>, _>(&mut array)? {
            members.is_empty = false;
            match member.required("new_chat_members[]").and_then(Person::counted) {
                Ok(Some((id, profile))) if seen.insert(id) => members.people.push((id, profile)),
                Ok(_) => {}
                Err(refusal) => {
                    members.refusal = Some(refusal);
                    while array.next_element::<IgnoredAny>()?.is_some() {}
                    break;
                }
            }
        }
        Ok(Field::Is(members))
    }
}

/// How many entities of the kinds that are counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Entities {
    pub(super) links: i32,
    pub(super) mentions: i32,
}

impl<'a> Value<'a> for Entities {
    fn from_array<A: SeqAccess<'a>>(mut array: A) -> Result<Field<Self>, A::Error> {
        let mut counts = Self::default();
        let mut is_wrong = false;
        while let Some(entity) = next_element::<Entity<'_>, _>(&mut array)? {
            match entity {
                Field::Is(Entity { kind: Field::Is(kind), .. }) => match kind.as_ref() {
                    "url" | "text_link" => counts.links += 1,
                    "mention" | "text_mention" => counts.mentions += 1,
                    _ => {}
                },
                _ => is_wrong = true,
            }
        }
        Ok(if is_wrong { Field::Wrong } else { Field::Is(counts) })
    }
}
