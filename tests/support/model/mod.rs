//! The contract as a fold, as straightforward as can be: all facts at once, every figure recounted.

pub mod calendar;
pub mod rows;

use std::{borrow::Cow, collections::BTreeMap};

use rollcall::decode::{Fact, Message, Profile, Seconds, What};
use uuid::Uuid;

use self::{
    calendar::Zone,
    rows::{Activity, Group, Membership, Metrics, Participant, Rows},
};

/// An organization.
#[derive(Debug, Clone, Copy)]
pub struct Org {
    pub id: Uuid,
    pub zone: &'static Zone,
}

/// A chat mapping that people made.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    pub org: Uuid,
    pub chat: i64,
    pub status: &'static str,
}

/// A fact and its organization.
pub type OrgFact<'a> = (Uuid, &'a Fact<'a>);

/// The rows that these facts make.
pub fn expected(orgs: &[Org], mapped: &[Mapped], facts: &[OrgFact<'_>]) -> Rows {
    let activity: Vec<_> = grouped(facts, |&(org, fact)| (org, fact.chat.id, kind(fact), fact.source_id, fact.user.id))
        .into_values()
        .map(|facts| happened(&facts))
        .collect();
    Rows {
        groups: groups(mapped, facts),
        participants: grouped(facts, |&(org, fact)| (org, fact.user.id))
            .into_values()
            .map(|facts| person(&facts))
            .collect(),
        memberships: grouped(facts, |&(org, fact)| (org, fact.chat.id, fact.user.id))
            .into_values()
            .map(|facts| membership(&facts))
            .collect(),
        metrics: orgs.iter().flat_map(|org| metrics(org, &activity)).collect(),
        activity,
    }
}

/// The items by key; no key is without items.
fn grouped<T: Copy, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> BTreeMap<K, Vec<T>> {
    let mut groups = BTreeMap::<K, Vec<T>>::new();
    for item in items {
        groups.entry(key(item)).or_default().push(*item);
    }
    groups
}

fn owned(text: Option<&Cow<'_, str>>) -> Option<String> {
    text.map(|text| text.as_ref().to_owned())
}

fn kind(fact: &Fact<'_>) -> &'static str {
    match fact.what {
        What::Message(_) => "message",
        What::Join => "join",
        What::Leave => "leave",
    }
}

fn message<'a>(fact: &'a Fact<'a>) -> Option<&'a Message<'a>> {
    match &fact.what {
        What::Message(message) => Some(message),
        What::Join | What::Leave => None,
    }
}

/// Whether this is an edit of a message.
fn is_edit(fact: &Fact<'_>) -> bool {
    message(fact).is_some_and(|message| message.is_edit)
}

fn groups(mapped: &[Mapped], facts: &[OrgFact<'_>]) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for &Mapped { org, chat, status } in mapped {
        groups.insert((org, chat), (status, Vec::new()));
    }
    for &(org, fact) in facts {
        groups.entry((org, fact.chat.id)).or_insert(("observed", Vec::new())).1.push(fact);
    }
    let group = |((org_id, tg_chat_id), (status, facts)): ((Uuid, i64), (&str, Vec<&Fact<'_>>))| {
        let titled = facts.iter().filter(|fact| fact.chat.title.is_some()).max_by_key(|fact| fact.version);
        Group {
            org_id,
            tg_chat_id,
            title: titled.and_then(|fact| owned(fact.chat.title.as_ref())),
            chat_type: titled.map(|fact| fact.chat.kind.name().to_owned()),
            status: status.to_owned(),
            last_event_at: facts.iter().map(|fact| fact.version.at).max(),
        }
    };
    groups.into_iter().map(group).collect()
}

fn person(facts: &[OrgFact<'_>]) -> Participant {
    let (org_id, newest) = facts.iter().max_by_key(|(_, fact)| fact.version).expect("facts");
    let Profile { username, first_name, last_name } = &newest.user.profile;
    let [username, first_name, last_name] = [username, first_name, last_name].map(|name| owned(name.as_ref()));
    let names: Vec<_> = [&first_name, &last_name].into_iter().flatten().cloned().collect();
    let full_name = if names.is_empty() {
        username.clone().unwrap_or_else(|| format!("User {}", newest.user.id))
    } else {
        names.join(" ")
    };
    Participant {
        org_id: *org_id,
        tg_user_id: Some(newest.user.id),
        merged_into: None,
        username,
        tg_first_name: first_name,
        tg_last_name: last_name,
        full_name: Some(full_name.clone()),
        tg_full_name: Some(full_name),
        source: "telegram_group".into(),
        status: "participant".into(),
        first_seen_at: facts.iter().map(|(_, fact)| fact.date).min(),
        last_activity_at: facts
            .iter()
            .filter(|(_, fact)| message(fact).is_some())
            .map(|(_, fact)| fact.version.at)
            .max(),
    }
}

fn membership(facts: &[OrgFact<'_>]) -> Membership {
    let (org_id, first) = facts[0];
    let last = |wanted: &str| -> Option<Seconds> {
        facts.iter().filter(|(_, fact)| kind(fact) == wanted).map(|(_, fact)| fact.date).max()
    };
    let (joined, left, wrote) = (last("join"), last("leave"), last("message"));
    Membership {
        org_id,
        tg_chat_id: first.chat.id,
        tg_user_id: Some(first.user.id),
        first_seen_at: facts.iter().map(|(_, fact)| fact.date).min().expect("facts"),
        last_joined_at: joined,
        last_left_at: left,
        last_message_at: wrote,
        is_active: left.is_none() || joined > left || wrote > left,
    }
}

fn happened(facts: &[OrgFact<'_>]) -> Activity {
    let (org_id, first) = facts[0];
    let version =
        |fact: &Fact<'_>| if is_edit(fact) { (fact.version.at, fact.version.update_id) } else { (fact.date, 0) };
    let newest = facts.iter().max_by_key(|(_, fact)| version(fact)).and_then(|(_, fact)| message(fact));
    let content = newest.cloned().unwrap_or_default();
    let messages = || facts.iter().filter_map(|(_, fact)| message(fact));
    Activity {
        org_id,
        tg_chat_id: first.chat.id,
        event_type: kind(first).into(),
        source_id: first.source_id,
        tg_user_id: first.user.id,
        participant: Some(first.user.id),
        occurred_at: first.date,
        edited_at: facts.iter().filter(|(_, fact)| is_edit(fact)).map(|(_, fact)| fact.version.at).max(),
        message_thread_id: messages().filter_map(|message| message.thread_id).max(),
        reply_to_message_id: messages().filter_map(|message| message.reply_to).max(),
        media_type: content.media.map(str::to_owned),
        has_media: content.media.is_some(),
        message_text: owned(content.text.as_ref()),
        chars_count: content.chars,
        links_count: content.links,
        mentions_count: content.mentions,
    }
}

/// Recounts the days of an organization.
fn metrics(org: &Org, activity: &[Activity]) -> Vec<Metrics> {
    let own: Vec<_> = activity.iter().filter(|row| row.org_id == org.id).collect();
    let day = |((tg_chat_id, date), rows): ((i64, &str), Vec<&Activity>)| {
        let of = |kind: &'static str| rows.iter().filter(move |row| row.event_type == kind);
        let users = |kind| grouped(&of(kind).collect::<Vec<_>>(), |row| row.tg_user_id).len();
        let messages = of("message").count();
        let replies = of("message").filter(|row| row.reply_to_message_id.is_some()).count();
        let int = |count: usize| i32::try_from(count).expect("few");
        Metrics {
            org_id: org.id,
            tg_chat_id,
            date: date.into(),
            message_count: int(messages),
            reply_count: int(replies),
            // half away from zero
            reply_ratio: int((200 * replies + messages).checked_div(2 * messages).unwrap_or(0)),
            dau: int(users("message")),
            join_count: int(users("join")),
            leave_count: int(users("leave")),
            net_member_change: int(users("join")) - int(users("leave")),
        }
    };
    grouped(&own, |row| (row.tg_chat_id, org.zone.day(row.occurred_at))).into_iter().map(day).collect()
}
