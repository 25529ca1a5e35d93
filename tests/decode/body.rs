//! Bodies to decode: a few valid ones, changed in one place at a time.

use std::{fmt::Write, time::Duration};

use rollcall::decode::{Event, Fact, Limits, Message, Seconds, What, decode};
use serde_json::{Value, json};

pub const ORG: &str = "6f1d5f0e-9c0b-4a57-8f7e-3d1b2a4c5e6f";
/// The worker's clock, the kit's too.
pub const NOW: Seconds = 1_762_306_200;
pub const DAY: Seconds = 86_400;
pub const DATE: Seconds = NOW - 500;
/// 2013-01-01.
pub const EARLIEST: Seconds = 1_356_998_400;
pub const MAX_ID: i64 = 1 << 53;
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// The defaults.
pub fn limits() -> Limits {
    Limits { max_body_bytes: MAX_BODY_BYTES, max_clock_skew: Duration::from_hours(24), store_text: true }
}

/// JSON in which places can hold raw text: numbers of any length, keys given twice, no JSON at all.
#[derive(Debug, Clone)]
pub struct Body {
    json: Value,
    /// What paths that begin with a dot are relative to.
    main: &'static str,
    raw: Vec<String>,
}

impl Body {
    fn enveloped(main: &'static str, update: &Value) -> Self {
        Self { json: json!({ "org_id": ORG, "update": update }), main, raw: Vec::new() }
    }

    /// A text message.
    pub fn message() -> Self {
        Self::enveloped("update.message", &json!({ "update_id": 7, "message": written() }))
    }

    /// The same message as a bare update.
    pub fn bare() -> Self {
        Self { json: json!({ "update_id": 7, "message": written() }), main: "message", raw: Vec::new() }
    }

    /// The same message, edited.
    pub fn edit() -> Self {
        let edited = Self::enveloped("update.edited_message", &json!({ "update_id": 8, "edited_message": written() }));
        edited.set(".edit_date", &(DATE + 60).to_string())
    }

    /// A message that says that these members joined.
    pub fn join(members: &str) -> Self {
        Self::message().without(".text").set(".new_chat_members", members)
    }

    /// A message that says that this member left.
    pub fn leave(member: &str) -> Self {
        Self::message().without(".text").set(".left_chat_member", member)
    }

    /// A change of user 44 from one membership to another; their users are added.
    pub fn chat_member(old: &Value, new: &Value) -> Self {
        let changed =
            json!({ "chat": chat(), "from": user(42), "date": DATE, "old_chat_member": old, "new_chat_member": new });
        let mut body = Self::enveloped("update.chat_member", &json!({ "update_id": 9, "chat_member": changed }));
        for member in ["old_chat_member", "new_chat_member"] {
            body.json["update"]["chat_member"][member]["user"] = user(44);
        }
        body
    }

    /// User 44 joined, told by `chat_member`.
    pub fn came() -> Self {
        Self::chat_member(&json!({ "status": "left" }), &json!({ "status": "member" }))
    }

    /// Puts raw text at a path of keys and indexes; one that begins with a dot starts in the message.
    pub fn set(mut self, path: &str, raw: &str) -> Self {
        // What JSON keeps as it is stays open to further changes.
        if let Some(value) = serde_json::from_str(raw).ok().filter(|value| is_written(value, raw)) {
            *self.slot(path) = value;
            return self;
        }
        let mark = format!("@{}@", self.raw.len());
        self.raw.push(raw.to_owned());
        *self.slot(path) = mark.into();
        self
    }

    /// Gives the key at a path once more, with this text.
    pub fn twice(mut self, path: &str, raw: &str) -> Self {
        let first = self.slot(path).to_string();
        let key = path.rsplit('.').next().unwrap_or_default();
        self.set(path, &format!(r#"{first},"{key}":{raw}"#))
    }

    /// Gives the key at a path once more, with the same value.
    pub fn doubled(mut self, path: &str) -> Self {
        let first = self.slot(path).to_string();
        self.twice(path, &first)
    }

    /// Removes the key at a path.
    pub fn without(mut self, path: &str) -> Self {
        let path = self.absolute(path);
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", &path));
        let parent = if parent.is_empty() { &mut self.json } else { at(&mut self.json, parent) };
        parent.as_object_mut().expect("an object").remove(key).expect("the key to remove");
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = self.json.to_string();
        for (index, raw) in self.raw.iter().enumerate().rev() {
            text = text.replace(&format!(r#""@{index}@""#), raw);
        }
        text.into_bytes()
    }

    fn slot(&mut self, path: &str) -> &mut Value {
        let path = self.absolute(path);
        at(&mut self.json, &path)
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('.') { format!("{}{path}", self.main) } else { path.to_owned() }
    }
}

fn is_written(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}

fn at<'a>(json: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(json, |value, key| match value {
        Value::Array(items) => &mut items[key.parse::<usize>().expect("an index")],
        object => &mut object[key],
    })
}

pub fn chat() -> Value {
    json!({ "id": -1_001_234_567_890_i64, "type": "supergroup", "title": "Ops" })
}

pub fn user(id: i64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": "Ada", "last_name": "Lovelace", "username": "ada" })
}

fn written() -> Value {
    json!({ "message_id": 11, "date": DATE, "chat": chat(), "from": user(42), "text": "hello" })
}

/// What decode says of a body: `ignored`, a reason code, or how many facts.
pub fn verdict(body: &[u8]) -> String {
    verdict_under(body, &limits(), NOW)
}

pub fn verdict_under(body: &[u8], limits: &Limits, now: Seconds) -> String {
    match decode(body, limits, now) {
        Ok(None) => "ignored".to_owned(),
        Ok(Some(event)) => format!("facts: {}", event.facts.len()),
        Err(refusal) => refusal.reason.code().to_owned(),
    }
}

/// Asserts one verdict for all bodies and names those that get another.
#[track_caller]
pub fn assert_all(expected: &str, bodies: &[Vec<u8>]) {
    assert!(!bodies.is_empty());
    let mut faults = String::new();
    for body in bodies {
        let found = verdict(body);
        if found != expected {
            writeln!(faults, "{found}: {}", shown(body)).expect("a String takes any text");
        }
    }
    assert!(faults.is_empty(), "expected {expected}, found\n{faults}");
}

/// The body as a person can read it.
pub fn shown(body: &[u8]) -> String {
    let start = body[..body.len().min(700)].escape_ascii();
    format!("{start} ({} bytes)", body.len())
}

#[track_caller]
pub fn event(body: &[u8]) -> Event<'static> {
    match decode(body, &limits(), NOW) {
        Ok(Some(event)) => event.into_owned(),
        other => panic!("expected facts, found {other:?}: {}", shown(body)),
    }
}

#[track_caller]
pub fn only_fact(body: &[u8]) -> Fact<'static> {
    let mut facts = event(body).facts.into_vec();
    assert_eq!(facts.len(), 1, "{}", shown(body));
    facts.remove(0)
}

#[track_caller]
pub fn message(body: &[u8]) -> Message<'static> {
    match only_fact(body).what {
        What::Message(message) => *message,
        other => panic!("expected a message, found {other:?}: {}", shown(body)),
    }
}
