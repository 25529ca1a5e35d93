//! An update of the Bot API: which facts it holds, if any, and what is wrong with them.

use std::{borrow::Cow, iter};

use super::{
    Chat, ChatKind, Fact, Few, Limits, MAX_ID, Message, Profile, Reason, Refusal, Seconds, User, Version, What,
    field::Integer,
    shape::{ChatMember, Content, Entities, Members, Update, title},
};

/// 2013-01-01, before Telegram.
const EARLIEST: Seconds = 1_356_998_400;

/// The facts of an update, none if it holds none. First comes what decides whether there is a fact at
/// all, then the types of what the facts need, then the ranges.
pub(super) fn facts<'a>(update: Update<'a>, limits: &Limits, now: Seconds) -> Result<Option<Few<Fact<'a>>>, Refusal> {
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
    found.map(|found| found.judge(update_id, limits, now)).transpose()
}

/// What an update was found to tell, its types checked and its ranges not yet.
struct Told<'a> {
    people: Few<(Integer, Profile<'a>)>,
    chat: (Integer, ChatKind, Option<Cow<'a, str>>),
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
    fn told(self: Box<Self>, is_edit: bool) -> Result<Option<Told<'a>>, Refusal> {
        let content = self.content();
        let place = self.chat.required("chat")?;
        let Some((kind, place)) = place.counted()? else { return Ok(None) };

        let members = if is_edit { None } else { self.new_chat_members.optional("new_chat_members")? };
        let (people, what) = if let Some(members) = members.filter(Members::is_some) {
            (Few::Many(members.people()?), Some(Happened::Join))
        } else if !is_edit && self.left_chat_member.is_given() {
            (alone(self.left_chat_member.required("left_chat_member")?.counted()?), Some(Happened::Leave))
        } else if content.is_some() && self.from.is_given() {
            (alone(self.from.required("from")?.counted()?), None)
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
    fn told(self: Box<Self>) -> Result<Option<Told<'a>>, Refusal> {
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
        Ok(Some(Told { people: Few::One(person), chat, date, edit_date: None, message_id: None, what }))
    }
}

/// The one person who counts, if there is one.
fn alone<T>(person: Option<T>) -> Few<T> {
    person.map_or(Few::Many(Vec::new()), Few::One)
}

impl<'a> Told<'a> {
    fn judge(self, update_id: Integer, limits: &Limits, now: Seconds) -> Result<Few<Fact<'a>>, Refusal> {
        let update_id = positive_id(update_id, "update_id")?;
        let source_id = self.message_id.map_or(Ok(-update_id), |id| positive_id(id, "message_id"))?;
        let (chat_id, kind, title) = self.chat;
        let chat_id = chat_id.filter(|id| *id != 0 && id.unsigned_abs() <= MAX_ID.unsigned_abs());
        let chat_id = chat_id.ok_or_else(|| Refusal::at(Reason::InvalidEvent, "chat.id", "is 0 or beyond 2^53"))?;
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
        let fact = |((id, profile), (chat, what))| {
            let user = User { id: positive_id(id, "user.id")?, profile };
            Ok(Fact { chat, user, version, date, source_id, what })
        };
        Ok(match self.people {
            Few::One(person) => Few::One(fact((person, (chat, what)))?),
            Few::Many(people) => {
                let shared = iter::repeat_n((chat, what), people.len());
                Few::Many(people.into_iter().zip(shared).map(fact).collect::<Result<_, Refusal>>()?)
            }
        })
    }
}

impl<'a> Written<'a> {
    fn judge(self, limits: &Limits) -> Result<Message<'a>, Refusal> {
        let thread_id = self.thread_id.map(|id| positive_id(id, "message_thread_id")).transpose()?;
        let replied_to = self.replied_to.map(|id| positive_id(id, "reply_to_message.message_id")).transpose()?;
        let chars = self.text.as_deref().map_or(0, utf16_length);
        Ok(Message {
            is_edit: self.is_edit,
            thread_id,
            reply_to: replied_to.filter(|_| !self.is_under_topic),
            media: self.media,
            chars: i32::try_from(chars).unwrap_or(i32::MAX),
            text: self.text.filter(|_| limits.store_text),
            links: self.counts.links,
            mentions: self.counts.mentions,
        })
    }
}

/// In code units: one for each character, and one more for each that takes four bytes here and a surrogate pair there.
fn utf16_length(text: &str) -> usize {
    /// Of so many bytes the code units fit one.
    const MOST: usize = 255 / 2;
    let add = |units: u8, byte: &u8| {
        // Never wraps, and unlike a checked sum many at once are added.
        units.wrapping_add(u8::from(byte & 0xc0 != 0x80)).wrapping_add(u8::from(*byte >= 0xf0))
    };
    text.as_bytes().chunks(MOST).map(|bytes| usize::from(bytes.iter().fold(0, add))).sum()
}

fn positive_id(id: Integer, path: &str) -> Result<i64, Refusal> {
    match id {
        Some(id @ 1..=MAX_ID) => Ok(id),
        _ => Err(Refusal::at(Reason::InvalidEvent, path, "is outside 1 to 2^53")),
    }
}

fn date(date: Integer, latest: Seconds, path: &str) -> Result<Seconds, Refusal> {
    match date {
        Some(date) if date < EARLIEST => {
            Err(Refusal::at(Reason::InvalidEvent, path, format_args!("{date} is before 2013")))
        }
        Some(date) if date <= latest => Ok(date),
        _ => Err(Refusal::at(Reason::InvalidEvent, path, "is too far in the future")),
    }
}
