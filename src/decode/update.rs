//! An update of the Bot API: which facts it holds, if any, and what is wrong with them.

use std::{borrow::Cow, collections::HashSet};

use serde::de::{IgnoredAny, SeqAccess};

use super::{
    Chat, ChatKind, Fact, Limits, Message, Profile, Reason, Refusal, Seconds, User, Version, What,
    field::{Field, Given, Integer, Value, next_element, object},
};

const MAX_ID: i64 = 1 << 53;
/// 2013-01-01, before Telegram.
const EARLIEST: Seconds = 1_356_998_400;
/// Telegram itself, channels and anonymous administrators.
const SYSTEM_ACCOUNTS: [i64; 3] = [777_000, 136_817_688, 1_087_968_824];

object! {
    struct Update<'a> {
        "update_id" => update_id: Integer,
        "message" => message: Content<'a>,
        "edited_message" => edited_message: Content<'a>,
        "chat_member" => chat_member: ChatMember<'a>,
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
        "new_chat_members" => new_chat_members: Members,
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

/// The facts of an update, none if it holds none. First comes what decides whether there is a fact at
/// all, then the types of what the facts need, then the ranges.
pub(super) fn facts(update: Update<'_>, limits: &Limits, now: Seconds) -> Result<Vec<Fact>, Refusal> {
    let update_id = update.update_id.required("update_id")?;
    let found = if update.message.is_given() {
        update.message.required("message")?.told(false)?
    } else if update.edited_message.is_given() {
        update.edited_message.required("edited_message")?.told(true)?
    } else if update.chat_member.is_given() {
        update.chat_member.required("chat_member")?.told()?
    } else {
        None
    };
    found.map_or(Ok(Vec::new()), |found| found.judge(update_id, limits, now))
}

/// What an update was found to tell, its types checked and its ranges not yet.
struct Told<'a> {
    people: Vec<(Integer, Profile)>,
    chat: (Integer, ChatKind, Option<String>),
    date: Integer,
    edit_date: Option<Integer>,
    message_id: Option<Integer>,
    what: Happened<'a>,
}

enum Happened<'a> {
    Message(Written<'a>),
    Join,
    Leave,
}

/// A message's content with its types checked.
struct Written<'a> {
    is_edit: bool,
    thread_id: Option<Integer>,
    replied_to: Option<Integer>,
    /// Telegram hangs every message of a topic under its root, which is no reply.
    is_under_topic: bool,
    media: Option<&'static str>,
    text: Option<Cow<'a, str>>,
    counts: Entities,
}

impl<'a> Content<'a> {
    fn told(self, is_edit: bool) -> Result<Option<Told<'a>>, Refusal> {
        let content = self.content();
        let place = self.chat.required("chat")?;
        let Some((kind, place)) = place.counted()? else { return Ok(None) };

        let members = if is_edit { None } else { self.new_chat_members.optional("new_chat_members")? };
        let (people, what) = if let Some(members) = members.filter(Members::is_some) {
            (members.people()?, Some(Happened::Join))
        } else if !is_edit && self.left_chat_member.is_given() {
            let left = self.left_chat_member.required("left_chat_member")?.counted()?;
            (Vec::from_iter(left), Some(Happened::Leave))
        } else if content.is_some() && self.from.is_given() {
            (Vec::from_iter(self.from.required("from")?.counted()?), None)
        } else {
            return Ok(None);
        };
        if people.is_empty() {
            return Ok(None);
        }
        let chat = (place.id.required("chat.id")?, kind, title(place.title)?);
        let date = self.date.required("date")?;
        let edit_date = if is_edit { Some(self.edit_date.required("edit_date")?) } else { None };
        let message_id = Some(self.message_id.required("message_id")?);
        let what = if let Some(what) = what {
            what
        } else {
            let text = self.text.optional("text")?;
            let caption = self.caption.optional("caption")?;
            let (counts, path) =
                if text.is_some() { (self.entities, "entities") } else { (self.caption_entities, "caption_entities") };
            let counts = counts.optional(path)?.unwrap_or_default();
            let thread_id = self.message_thread_id.optional("message_thread_id")?;
            let reply = self.reply_to_message.optional("reply_to_message")?;
            let replied_to = reply.map(|reply| reply.message_id.required("reply_to_message.message_id")).transpose()?;
            let is_under_topic = matches!(replied_to, Some(Some(_)))
                && replied_to == thread_id
                && self.is_topic_message.optional("is_topic_message")?.unwrap_or(false);
            let media = content.filter(|&content| content != "text");
            Happened::Message(Written {
                is_edit,
                thread_id,
                replied_to,
                is_under_topic,
                media,
                text: text.or(caption),
                counts,
            })
        };
        Ok(Some(Told { people, chat, date, edit_date, message_id, what }))
    }

    /// The first content field that is there; a message without one is a service message.
    fn content(&self) -> Option<&'static str> {
        let given = [
            ("text", self.text.is_given()),
            ("animation", self.animation.is_given()),
            ("audio", self.audio.is_given()),
            ("checklist", self.checklist.is_given()),
            ("contact", self.contact.is_given()),
            ("dice", self.dice.is_given()),
            ("document", self.document.is_given()),
            ("game", self.game.is_given()),
            ("paid_media", self.paid_media.is_given()),
            ("photo", self.photo.is_given()),
            ("poll", self.poll.is_given()),
            ("sticker", self.sticker.is_given()),
            ("story", self.story.is_given()),
            ("venue", self.venue.is_given()),
            ("video", self.video.is_given()),
            ("video_note", self.video_note.is_given()),
            ("voice", self.voice.is_given()),
            ("location", self.location.is_given()),
        ];
        given.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

impl<'a> ChatMember<'a> {
    fn told(self) -> Result<Option<Told<'a>>, Refusal> {
        let Some((kind, place)) = self.chat.required("chat")?.counted()? else { return Ok(None) };
        let (_, was_present) = self.old.required("old_chat_member")?.presence("old_chat_member")?;
        let (user, is_present) = self.new.required("new_chat_member")?.presence("new_chat_member")?;
        if was_present == is_present {
            return Ok(None);
        }
        let Some(person) = user.required("new_chat_member.user")?.counted()? else { return Ok(None) };
        let chat = (place.id.required("chat.id")?, kind, title(place.title)?);
        let date = self.date.required("date")?;
        let what = if is_present { Happened::Join } else { Happened::Leave };
        Ok(Some(Told { people: vec![person], chat, date, edit_date: None, message_id: None, what }))
    }
}

impl<'a> Membership<'a> {
    /// The user, and whether somebody of this status is in the chat.
    fn presence(self, path: &str) -> Result<(Field<Person<'a>>, bool), Refusal> {
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
    fn counted(mut self) -> Result<Option<(ChatKind, Self)>, Refusal> {
        let kind = std::mem::take(&mut self.kind).required("chat.type")?;
        Ok(match kind.as_ref() {
            "group" => Some((ChatKind::Group, self)),
            "supergroup" => Some((ChatKind::Supergroup, self)),
            _ => None,
        })
    }
}

fn title(title: Field<Cow<'_, str>>) -> Result<Option<String>, Refusal> {
    Ok(non_empty(title.optional("chat.title")?))
}

fn non_empty(text: Option<Cow<'_, str>>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(Cow::into_owned)
}

impl Person<'_> {
    /// Id and names, unless this is a bot or a system account.
    fn counted(self) -> Result<Option<(Integer, Profile)>, Refusal> {
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
pub(super) struct Members {
    is_empty: bool,
    people: Vec<(Integer, Profile)>,
    refusal: Option<Refusal>,
}

impl Members {
    const fn is_some(&self) -> bool {
        !self.is_empty
    }

    fn people(self) -> Result<Vec<(Integer, Profile)>, Refusal> {
        self.refusal.map_or(Ok(self.people), Err)
    }
}

impl<'a> Value<'a> for Members {
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
    links: i32,
    mentions: i32,
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

impl Told<'_> {
    fn judge(self, update_id: Integer, limits: &Limits, now: Seconds) -> Result<Vec<Fact>, Refusal> {
        let update_id = positive_id(update_id, "update_id")?;
        let source_id = self.message_id.map_or(Ok(-update_id), |id| positive_id(id, "message_id"))?;
        let (chat_id, kind, title) = self.chat;
        let chat_id = chat_id.filter(|id| *id != 0 && id.unsigned_abs() <= MAX_ID.unsigned_abs());
        let chat_id = chat_id.ok_or_else(|| Refusal::new(Reason::InvalidEvent, "chat.id is 0 or beyond 2^53"))?;
        let latest = now.saturating_add_unsigned(limits.max_clock_skew.as_secs());
        let date = date(self.date, latest, "date")?;
        let at = self.edit_date.map_or(Ok(date), |at| self::date(at, latest, "edit_date"))?;
        let what = match self.what {
            Happened::Message(written) => What::Message(Box::new(written.judge(limits)?)),
            Happened::Join => What::Join,
            Happened::Leave => What::Leave,
        };
        let chat = Chat { id: chat_id, kind, title };
        let version = Version { at, update_id };
        let fact = |(id, profile)| {
            let user = User { id: positive_id(id, "user.id")?, profile };
            Ok(Fact { chat: chat.clone(), user, version, date, source_id, what: what.clone() })
        };
        self.people.into_iter().map(fact).collect()
    }
}

impl Written<'_> {
    fn judge(self, limits: &Limits) -> Result<Message, Refusal> {
        let thread_id = self.thread_id.map(|id| positive_id(id, "message_thread_id")).transpose()?;
        let replied_to = self.replied_to.map(|id| positive_id(id, "reply_to_message.message_id")).transpose()?;
        let chars = self.text.as_ref().map_or(0, |text| text.encode_utf16().count());
        Ok(Message {
            is_edit: self.is_edit,
            thread_id,
            reply_to: replied_to.filter(|_| !self.is_under_topic),
            media: self.media,
            chars: i32::try_from(chars).unwrap_or(i32::MAX),
            text: self.text.filter(|_| limits.store_text).map(Cow::into_owned),
            links: self.counts.links,
            mentions: self.counts.mentions,
        })
    }
}

fn positive_id(id: Integer, path: &str) -> Result<i64, Refusal> {
    match id {
        Some(id @ 1..=MAX_ID) => Ok(id),
        _ => Err(Refusal::new(Reason::InvalidEvent, format!("{path} is outside 1 to 2^53"))),
    }
}

fn date(date: Integer, latest: Seconds, path: &str) -> Result<Seconds, Refusal> {
    match date {
        Some(date) if date < EARLIEST => {
            Err(Refusal::new(Reason::InvalidEvent, format!("{path} {date} is before 2013")))
        }
        Some(date) if date <= latest => Ok(date),
        _ => Err(Refusal::new(Reason::InvalidEvent, format!("{path} is too far in the future"))),
    }
}
