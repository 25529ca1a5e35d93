//! Updates as Telegram would send them.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Org;
use crate::decode::Seconds;

const WORDS: [&str; 16] = [
    "release",
    "friday",
    "please",
    "check",
    "logs",
    "before",
    "merging",
    "thanks",
    "привет",
    "спасибо",
    "会议",
    "שלום",
    "naïve",
    "👍",
    "ok",
    "@someone",
];
const FIRST: [&str; 10] = ["Anna", "Boris", "Chen", "Elena", "Farid", "Inès", "Klara", "Мария", "Olga", "Tariq"];
const LAST: [&str; 8] = ["Ivanov", "Müller", "Nguyen", "Okafor", "Rossi", "Tanaka", "Ким", "O'Neil"];

/// An organization with its people and what they have said so far.
pub(super) struct Community {
    org: Org,
    users: u64,
    /// Of each chat, id, author and date of some messages, for replies and edits.
    said: HashMap<i64, Vec<(u64, u64, Seconds)>>,
    last_message_id: u64,
}

impl Community {
    pub(super) fn new(org: Org, users: u64) -> Self {
        Self { org, users, said: HashMap::new(), last_message_id: 0 }
    }

    pub(super) const fn org(&self) -> &Org {
        &self.org
    }

    pub(super) fn update(&mut self, random: &mut fastrand::Rng, update_id: u64, date: Seconds) -> Value {
        let chat = self.org.chats[random.usize(..self.org.chats.len())];
        let title = format!(
            "{} chat {}{}",
            self.org.name,
            -chat % 1000,
            if day(date).is_multiple_of(2) { "" } else { ", renamed" }
        );
        let place = json!({ "id": chat, "type": "supergroup", "title": title });
        let author = self.anyone(random);
        match random.u8(..100) {
            0..80 => {
                self.last_message_id += 1;
                let id = self.last_message_id;
                let mut message =
                    json!({ "message_id": id, "date": date, "chat": place, "from": person(author, date) });
                if let Some((replied, ..)) = self.recall(random, chat).filter(|_| random.u8(..4) == 0) {
                    message["reply_to_message"] = json!({ "message_id": replied, "date": date, "chat": place });
                }
                content(random, &mut message);
                let said = self.said.entry(chat).or_default();
                if said.len() < 100 {
                    said.push((id, author, date));
                } else {
                    said[random.usize(..100)] = (id, author, date);
                }
                json!({ "update_id": update_id, "message": message })
            }
            80..86 => match self.recall(random, chat) {
                Some((id, author, original)) => {
                    let from = person(author, date);
                    let mut message =
                        json!({ "message_id": id, "date": original, "edit_date": date, "chat": place, "from": from });
                    content(random, &mut message);
                    json!({ "update_id": update_id, "edited_message": message })
                }
                None => json!({ "update_id": update_id, "poll": { "id": "1" } }),
            },
            86..92 => {
                self.last_message_id += 1;
                let joined: Vec<_> = (0..=random.u8(..3)).map(|_| person(self.anyone(random), date)).collect();
                json!({ "update_id": update_id, "message": {
                    "message_id": self.last_message_id, "date": date, "chat": place, "from": person(author, date), "new_chat_members": joined,
                } })
            }
            92..97 => {
                let (old, new) = if random.bool() { ("left", "member") } else { ("member", "left") };
                let user = person(author, date);
                json!({ "update_id": update_id, "chat_member": {
                    "date": date, "chat": place, "from": user,
                    "old_chat_member": { "user": user, "status": old }, "new_chat_member": { "user": user, "status": new },
                } })
            }
            _ => json!({ "update_id": update_id, "message": {
                "message_id": 1, "date": date, "chat": place, "from": bot(), "text": "I am a bot",
            } }),
        }
    }

    /// Some people write much more than others.
    fn anyone(&self, random: &mut fastrand::Rng) -> u64 {
        let most = if random.u8(..10) < 7 { self.users.div_ceil(10) } else { self.users };
        let org = self.org.id.as_fields().0;
        100_000_000 + u64::from(org) * 1000 + random.u64(..most.max(1))
    }

    /// One time in three, something that was said there.
    fn recall(&self, random: &mut fastrand::Rng, chat: i64) -> Option<(u64, u64, Seconds)> {
        let said = self.said.get(&chat).filter(|_| random.u8(..3) == 0)?;
        random.choice(said).copied()
    }
}

fn day(date: Seconds) -> u64 {
    u64::try_from(date / 86_400).unwrap_or(0)
}

/// Every third person has another first name every day.
fn person(id: u64, date: Seconds) -> Value {
    let pick = |from: &'static [&'static str], number: u64| from[usize::try_from(number).unwrap_or(0) % from.len()];
    let first = pick(&FIRST, if id.is_multiple_of(3) { id + day(date) } else { id });
    json!({ "id": id, "is_bot": false, "first_name": first, "last_name": pick(&LAST, id), "username": format!("user_{id}"), "language_code": "en" })
}

fn bot() -> Value {
    json!({ "id": 7_000_001, "is_bot": true, "first_name": "Bot", "username": "some_bot" })
}

fn content(random: &mut fastrand::Rng, message: &mut Value) {
    let words: Vec<_> = (0..=random.u8(..20)).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
    let text = words.join(" ");
    if random.u8(..10) == 0 {
        message["photo"] = json!([{ "file_id": "A", "width": 90, "height": 90 }]);
        message["caption"] = json!(text);
    } else {
        message["text"] = json!(text);
        if words.contains(&"@someone") {
            message["entities"] = json!([{ "type": "mention", "offset": 0, "length": 8 }]);
        }
    }
}
