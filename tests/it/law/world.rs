//! Small worlds of valid events that collide a lot and never contradict each other: date, author and
//! original content of a message follow from its id, and every distinct update has an id of its own.

use std::{fmt, ops::RangeInclusive};

use proptest::{array, collection::vec, option, prelude::*, sample::select};
use rollcall::decode::Seconds;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    calendar::INSTANTS,
    content::{KINDS, content},
};

pub const CHATS: [i64; 2] = [-1_001, -1_002];
/// Batches of a way, at most.
const BATCHES: u8 = 5;
/// Added to the update id by another bot that saw the same.
const ANOTHER_BOT: usize = 1_000_000;

/// How large a world is.
pub struct Size {
    pub users: i64,
    pub messages: usize,
    pub updates: RangeInclusive<usize>,
}

pub const SMALL: Size = Size { users: 4, messages: 5, updates: 1..=24 };

/// The updates, each with how it is delivered.
pub struct World {
    pub updates: Vec<Sent>,
}

/// An update and the organization that its envelope names.
pub struct Sent {
    org: usize,
    update: Value,
    ways: Ways,
}

/// When an update is delivered, in three different ways: batch and place in it, once or more.
type Ways = [Vec<(u8, u8)>; 3];

impl World {
    /// The updates' indices, as a way delivers them: batch by batch.
    pub fn batches(&self, way: usize) -> Vec<Vec<usize>> {
        let updates = self.updates.iter().enumerate();
        let mut deliveries: Vec<_> =
            updates.flat_map(|(index, sent)| sent.ways[way].iter().map(move |&at| (at, index))).collect();
        deliveries.sort_unstable();
        let batches = deliveries.chunk_by(|((one, _), _), ((other, _), _)| one == other);
        batches.map(|batch| batch.iter().map(|&(_, index)| index).collect()).collect()
    }
}

impl Sent {
    /// The body with its envelope.
    pub fn enveloped(&self, orgs: [Uuid; 2]) -> Vec<u8> {
        json!({ "org_id": orgs[self.org], "update": self.update }).to_string().into_bytes()
    }

    /// The update as a body of its own.
    pub fn bare(&self) -> Vec<u8> {
        self.update.to_string().into_bytes()
    }
}

/// The bodies, for whoever looks into a failure.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sent { org, update, ways } in &self.updates {
            write!(f, "\norganization {org}: {update}\n    delivered in (batch, place): {ways:?}")?;
        }
        Ok(())
    }
}

/// What is true of a message whoever tells of it.
#[derive(Debug, Clone)]
struct Lore {
    date: Seconds,
    author: i64,
    content: usize,
}

#[derive(Debug, Clone)]
struct Draft {
    org: usize,
    chat: usize,
    what: What,
    look: Look,
    ways: Ways,
    /// Another bot saw the same.
    copy: Option<Ways>,
}

#[derive(Debug, Clone)]
enum What {
    Message { message: usize },
    Edit { message: usize, after: Seconds, content: usize },
    Joined { message: usize },
    Left { message: usize },
    Member { user: i64, date: Seconds, statuses: (Status, Status) },
}

type Status = (&'static str, Option<bool>);
type Name = Option<&'static str>;

/// What may differ from update to update.
#[derive(Debug, Clone)]
struct Look {
    names: (Name, Name, Name),
    title: Name,
    kind: &'static str,
    thread: (Option<i64>, bool),
    reply: Option<i64>,
}

/// Worlds of a size.
pub fn worlds(size: Size) -> impl Strategy<Value = World> {
    let lore = (select(INSTANTS.to_vec()), 1..=size.users, 0..KINDS);
    let lore = lore.prop_map(|(date, author, content)| Lore { date, author, content });
    let draft = drafts(size.users, size.messages);
    (vec(lore, size.messages), vec(draft, size.updates)).prop_map(|(lore, drafts)| build(&lore, drafts))
}

fn drafts(users: i64, messages: usize) -> impl Strategy<Value = Draft> {
    let parts = (0..2_usize, 0..2_usize, whats(users, messages), looks(), ways(), option::weighted(0.2, ways()));
    parts.prop_map(|(org, chat, what, look, ways, copy)| Draft { org, chat, what, look, ways, copy })
}

fn whats(users: i64, messages: usize) -> impl Strategy<Value = What> {
    const THERE: [Status; 4] =
        [("member", None), ("administrator", None), ("creator", None), ("restricted", Some(true))];
    const AWAY: [Status; 3] = [("left", None), ("kicked", None), ("restricted", Some(false))];
    let came = (select(AWAY.to_vec()), select(THERE.to_vec()));
    let went = (select(THERE.to_vec()), select(AWAY.to_vec()));
    let member = (1..=users, select(INSTANTS.to_vec()), prop_oneof![came, went]);
    prop_oneof![
        3 => (0..messages).prop_map(|message| What::Message { message }),
        4 => (0..messages, 0..3_i64, 0..KINDS)
            .prop_map(|(message, after, content)| What::Edit { message, after, content }),
        1 => (0..messages).prop_map(|message| What::Joined { message }),
        1 => (0..messages).prop_map(|message| What::Left { message }),
        2 => member.prop_map(|(user, date, statuses)| What::Member { user, date, statuses }),
    ]
}

fn looks() -> impl Strategy<Value = Look> {
    let name = || select(vec![None, Some(""), Some("Ann"), Some(" Bo ")]);
    let names = (select(vec![None, Some(""), Some("ann_b"), Some("bo")]), name(), name());
    let title = select(vec![None, Some(""), Some("Old"), Some("New")]);
    let thread = (option::of(1..3_i64), any::<bool>());
    let parts = (names, title, select(vec!["group", "supergroup"]), thread, option::of(1..4_i64));
    parts.prop_map(|(names, title, kind, thread, reply)| Look { names, title, kind, thread, reply })
}

fn ways() -> impl Strategy<Value = Ways> {
    let times = prop_oneof![3 => 1..=1_usize, 1 => 2..=3_usize];
    // fewer and simpler updates tell more than simpler ways
    array::uniform3(times.prop_flat_map(|times| vec((0..BATCHES, any::<u8>()), times))).no_shrink()
}

fn build(lore: &[Lore], drafts: Vec<Draft>) -> World {
    let mut updates = Vec::new();
    for (index, draft) in drafts.into_iter().enumerate() {
        let mut update = draft.update(lore, 1 + index);
        let org = draft.org;
        updates.push(Sent { org, update: update.clone(), ways: draft.ways });
        if let Some(ways) = draft.copy {
            update["update_id"] = json!(1 + index + ANOTHER_BOT);
            updates.push(Sent { org, update, ways });
        }
    }
    World { updates }
}

impl Draft {
    fn update(&self, lore: &[Lore], update_id: usize) -> Value {
        let Look { title, kind, .. } = self.look;
        let chat = json!({ "id": CHATS[self.chat], "type": kind, "title": title });
        match self.what {
            What::Message { message } => {
                let mut told = self.message(lore, message, &chat);
                extend(&mut told, content(lore[message].content, &format!("message {message}")));
                json!({ "update_id": update_id, "message": told })
            }
            What::Edit { message, after, content: kind } => {
                let mut told = self.message(lore, message, &chat);
                told["edit_date"] = json!(lore[message].date + after);
                extend(&mut told, content(kind, &format!("edit {update_id}")));
                json!({ "update_id": update_id, "edited_message": told })
            }
            What::Joined { message } => {
                let other = lore[(message + 1) % lore.len()].author;
                let bot = json!({ "id": 99, "is_bot": true, "first_name": "Bot" });
                // perhaps one user twice, of which the first counts
                let members = [self.user(lore[message].author), json!({ "id": other, "first_name": "Other" }), bot];
                let id = 1000 + message;
                json!({ "update_id": update_id, "message": {
                    "message_id": id, "date": lore[message].date, "chat": chat, "new_chat_members": members,
                } })
            }
            What::Left { message } => {
                let member = self.user(lore[message].author);
                let id = 2000 + message;
                json!({ "update_id": update_id, "message": {
                    "message_id": id, "date": lore[message].date, "chat": chat, "left_chat_member": member,
                } })
            }
            What::Member { user, date, statuses: (old, new) } => {
                let user = self.user(user);
                let member =
                    |(status, is_member): Status| json!({ "user": user, "status": status, "is_member": is_member });
                json!({ "update_id": update_id, "chat_member": {
                    "date": date, "chat": chat, "old_chat_member": member(old), "new_chat_member": member(new),
                } })
            }
        }
    }

    fn user(&self, id: i64) -> Value {
        let (username, first, last) = self.look.names;
        json!({ "id": id, "is_bot": false, "username": username, "first_name": first, "last_name": last })
    }

    /// A message without its content.
    fn message(&self, lore: &[Lore], message: usize, chat: &Value) -> Value {
        let Lore { date, author, .. } = lore[message];
        let (thread, is_topic) = self.look.thread;
        let reply = self.look.reply.map(|id| json!({ "message_id": id }));
        json!({
            "message_id": 1 + message, "date": date, "chat": chat, "from": self.user(author),
            "message_thread_id": thread, "is_topic_message": is_topic, "reply_to_message": reply,
        })
    }
}

fn extend(message: &mut Value, content: Value) {
    let (Value::Object(message), Value::Object(content)) = (message, content) else { unreachable!("objects both") };
    message.extend(content);
}
