//! Which facts an update holds.

use rollcall::decode::{ChatKind, Fact, What};
use serde_json::{Value, json};

use crate::body::{Body, DATE, ORG, assert_all, event, message, only_fact};

/// The contract's list, in its order.
const CONTENT: [&str; 18] = [
    "text",
    "animation",
    "audio",
    "checklist",
    "contact",
    "dice",
    "document",
    "game",
    "paid_media",
    "photo",
    "poll",
    "sticker",
    "story",
    "venue",
    "video",
    "video_note",
    "voice",
    "location",
];
const SYSTEM: [i64; 3] = [777_000, 136_817_688, 1_087_968_824];

fn service() -> Body {
    Body::message().without(".text")
}

fn value_of(content: &str) -> &'static str {
    if content == "text" { "\"hello\"" } else { "{}" }
}

/// Messages with each kind of content alone, and in pairs.
pub fn contents() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let mut bodies = Vec::new();
    for (index, first) in CONTENT.into_iter().enumerate() {
        let alone = service().set(&format!(".{first}"), value_of(first));
        let media = (first != "text").then_some(first);
        bodies.push((alone.bytes(), media));
        for other in &CONTENT[index + 1..] {
            bodies.push((alone.clone().set(&format!(".{other}"), "{}").bytes(), media));
        }
    }
    bodies
}

/// Every pair of statuses with what the contract makes of it.
pub fn transitions() -> Vec<(Vec<u8>, &'static str)> {
    let restricted = |is_member| json!({ "status": "restricted", "is_member": is_member });
    let memberships: Vec<(Value, bool)> = vec![
        (json!({ "status": "creator" }), true),
        (json!({ "status": "administrator" }), true),
        (json!({ "status": "member" }), true),
        (restricted(json!(true)), true),
        (restricted(json!(false)), false),
        (restricted(Value::Null), false),
        (json!({ "status": "restricted" }), false),
        (json!({ "status": "left" }), false),
        (json!({ "status": "left", "is_member": true }), false),
        (json!({ "status": "kicked" }), false),
        (json!({ "status": "kicked", "is_member": true }), false),
        (json!({ "status": "member", "is_member": false }), true),
        (json!({ "status": "owner" }), false),
        (json!({ "status": "" }), false),
        (json!({ "status": "Member" }), false),
        (json!({ "status": "member " }), false),
        (json!({ "status": "member\0" }), false),
    ];
    let mut bodies = Vec::new();
    for (old, was) in &memberships {
        for (new, is) in &memberships {
            let expected = match (was, is) {
                (false, true) => "join",
                (true, false) => "leave",
                _ => "ignored",
            };
            bodies.push((Body::chat_member(old, new).bytes(), expected));
        }
    }
    bodies
}

pub fn ignored() -> Vec<Vec<u8>> {
    let mut bodies = vec![
        Body::message().without("update.message").bytes(),
        br#"{"update_id":1}"#.to_vec(),
        br#"{"update_id":1,"quantum_poll":{}}"#.to_vec(),
        br#"{"update_id":1,"message":null,"edited_message":null,"chat_member":null}"#.to_vec(),
        // A bare update's keys count, not those inside of something else.
        br#"{"update_id":1,"my_update":{"message":{}}}"#.to_vec(),
    ];
    for kind in [
        "my_chat_member",
        "channel_post",
        "edited_channel_post",
        "business_message",
        "poll",
        "inline_query",
        "callback_query",
        "message_reaction",
    ] {
        let update = Body::message().without("update.message");
        bodies.push(update.set(&format!("update.{kind}"), r#"{"chat":5,"from":true,"text":[]}"#).bytes());
    }
    for kind in ["private", "channel", "", "sender", "Group", "SUPERGROUP", "group ", "gigagroup"] {
        let kind = format!("\"{kind}\"");
        for body in [
            Body::message(),
            Body::edit(),
            Body::join(r#"[{"id":43}]"#),
            Body::leave(r#"{"id":43}"#),
            Body::came(),
            Body::bare(),
        ] {
            bodies.push(body.set(".chat.type", &kind).bytes());
        }
    }
    for service_kind in [
        "new_chat_title",
        "new_chat_photo",
        "delete_chat_photo",
        "group_chat_created",
        "migrate_to_chat_id",
        "migrate_from_chat_id",
        "pinned_message",
        "forum_topic_created",
        "video_chat_started",
        "new_chat_member",
        "new_chat_participant",
        "caption",
        "entities",
        "reply_to_message",
        "invoice",
    ] {
        bodies.push(service().set(&format!(".{service_kind}"), "{}").bytes());
    }
    bodies.push(service().bytes());
    bodies.push(service().set(".text", "null").set(".photo", "null").bytes());
    bodies.push(service().set(".new_chat_members", "[]").bytes());
    bodies.push(service().set(".new_chat_members", "null").set(".left_chat_member", "null").bytes());
    for body in [Body::message(), Body::edit()] {
        bodies.push(body.clone().without(".from").bytes());
        bodies.push(body.clone().without(".from").set(".sender_chat", r#"{"id":-5,"type":"channel"}"#).bytes());
        bodies.push(body.set(".from", "null").bytes());
    }
    // Only a new message tells of members.
    bodies.push(Body::edit().without(".text").set(".new_chat_members", r#"[{"id":43}]"#).bytes());
    bodies.push(Body::edit().without(".text").set(".left_chat_member", r#"{"id":43}"#).bytes());
    for stranger in strangers() {
        bodies.push(Body::message().set(".from", &stranger).bytes());
        bodies.push(Body::edit().set(".from", &stranger).bytes());
        bodies.push(Body::join(&format!("[{stranger}]")).bytes());
        bodies.push(Body::join(&format!("[{stranger},{stranger}]")).bytes());
        bodies.push(Body::leave(&stranger).bytes());
        bodies.push(Body::came().set(".new_chat_member.user", &stranger).bytes());
        // The text beside a join does not make the message count.
        bodies.push(Body::message().set(".new_chat_members", &format!("[{stranger}]")).bytes());
        bodies.push(Body::message().set(".left_chat_member", &stranger).bytes());
    }
    bodies
}

fn strangers() -> Vec<String> {
    let mut strangers = vec![
        r#"{"id":9,"is_bot":true,"first_name":"Helper"}"#.to_owned(),
        r#"{"is_bot":true}"#.to_owned(),
        r#"{"id":"x","is_bot":true}"#.to_owned(),
        r#"{"id":0,"is_bot":true}"#.to_owned(),
    ];
    for id in SYSTEM {
        strangers.extend(
            ["", r#","is_bot":false"#, r#","is_bot":null"#, r#","is_bot":true"#]
                .map(|flag| format!(r#"{{"id":{id}{flag}}}"#)),
        );
    }
    strangers
}

/// Updates of several kinds, with the source id of the one that counts, or none.
pub fn several_kinds() -> Vec<(Vec<u8>, Option<i64>)> {
    let changed = String::from_utf8(Body::came().bytes()).expect("UTF-8");
    let changed: Value = serde_json::from_str(&changed).expect("JSON");
    let changed = changed["update"]["chat_member"].to_string();
    let edited = r#"{"message_id":12,"date":1762305000,"edit_date":1762305001,"chat":{"id":-5,"type":"group"},"from":{"id":1},"text":"x"}"#;
    let update = Body::message();
    vec![
        (update.clone().set("update.edited_message", edited).set("update.chat_member", &changed).bytes(), Some(11)),
        (
            update
                .clone()
                .set("update.message", "null")
                .set("update.edited_message", edited)
                .set("update.chat_member", &changed)
                .bytes(),
            Some(12),
        ),
        (
            update
                .clone()
                .without("update.message")
                .set("update.edited_message", edited)
                .set("update.chat_member", &changed)
                .bytes(),
            Some(12),
        ),
        (
            update
                .clone()
                .set("update.message", "null")
                .set("update.edited_message", "null")
                .set("update.chat_member", &changed)
                .bytes(),
            Some(-7),
        ),
        (update.clone().set("update.my_chat_member", &changed).bytes(), Some(11)),
        // The first kind counts even if it tells nothing.
        (update.clone().without(".text").set("update.chat_member", &changed).bytes(), None),
        (update.set(".chat.type", "\"private\"").set("update.edited_message", edited).bytes(), None),
        (Body::edit().without(".text").set("update.chat_member", &changed).bytes(), None),
    ]
}

fn who(facts: &[Fact<'_>]) -> Vec<i64> {
    facts.iter().map(|fact| fact.user.id).collect()
}

fn joined(members: &str) -> Vec<i64> {
    let facts = event(&Body::join(members).bytes()).facts;
    assert!(facts.iter().all(|fact| fact.what == What::Join));
    who(&facts)
}

/// Lists of members, and who of them joined.
pub fn joins() -> Vec<(&'static str, Vec<i64>)> {
    vec![
        (r#"[{"id":43}]"#, vec![43]),
        (r#"[{"id":44},{"id":43}]"#, vec![44, 43]),
        (r#"[{"id":43},{"id":44},{"id":45},{"id":46},{"id":47},{"id":48}]"#, vec![43, 44, 45, 46, 47, 48]),
        (r#"[{"id":43},{"id":43}]"#, vec![43]),
        (r#"[{"id":43},{"id":44},{"id":43},{"id":44}]"#, vec![43, 44]),
        (r#"[{"id":9,"is_bot":true},{"id":43}]"#, vec![43]),
        (r#"[{"id":43},{"id":777000},{"id":44},{"id":1087968824,"is_bot":true},{"id":136817688}]"#, vec![43, 44]),
        (r#"[{"id":43,"is_bot":true},{"id":43}]"#, vec![43]),
        (r#"[{"id":43,"is_bot":null}]"#, vec![43]),
        (r#"[{"id":1},{"id":9007199254740992}]"#, vec![1, 1 << 53]),
    ]
}

#[test]
fn first_content_of_the_list_names_the_media() {
    for (body, media) in contents() {
        assert_eq!(message(&body).media, media);
    }
}

#[test]
fn any_value_but_null_is_media() {
    for value in ["{}", "[]", "0", "false", "\"\"", "1e999", "[{}]"] {
        assert_eq!(message(&service().set(".dice", value).bytes()).media, Some("dice"), "{value}");
        assert_eq!(message(&service().set(".dice", "null").set(".game", value).bytes()).media, Some("game"), "{value}");
    }
}

#[test]
fn updates_without_facts_are_ignored() {
    assert_all("ignored", &ignored());
}

#[test]
fn membership_changes_between_present_and_absent_are_joins_and_leaves() {
    for (body, expected) in transitions() {
        if expected == "ignored" {
            assert_all("ignored", &[body]);
        } else {
            let fact = only_fact(&body);
            assert_eq!((fact.what.name(), fact.user.id, fact.source_id), (expected, 44, -9));
        }
    }
}

#[test]
fn absent_old_user_and_who_changed_it_do_not_matter() {
    for body in [
        Body::came().without(".old_chat_member.user"),
        Body::came().without(".from"),
        Body::came().set(".from.is_bot", "true"),
    ] {
        assert_eq!(only_fact(&body.bytes()).user.id, 44);
    }
}

#[test]
fn each_member_joins_once_in_the_order_of_the_list() {
    for (members, expected) in joins() {
        assert_eq!(joined(members), expected, "{members}");
    }
}

#[test]
fn member_named_twice_joins_as_first_named() {
    let body = Body::join(r#"[{"id":43,"first_name":"First"},{"id":43,"first_name":"Second"}]"#).bytes();
    assert_eq!(only_fact(&body).user.profile.first_name.as_deref(), Some("First"));
}

#[test]
fn thousands_of_members_join() {
    let members: Vec<String> = (1..=5_000).map(|id| format!(r#"{{"id":{id}}}"#)).collect();
    assert_eq!(joined(&format!("[{}]", members.join(","))), (1..=5_000).collect::<Vec<i64>>());
}

#[test]
fn who_adds_members_is_neither_needed_nor_told() {
    for adder in ["null", "5", r#"{"id":9,"is_bot":true}"#, r#"{"id":777000}"#] {
        let body = Body::join(r#"[{"id":43}]"#).set(".from", adder).bytes();
        assert_eq!(who(&event(&body).facts), [43], "{adder}");
    }
    assert_eq!(only_fact(&Body::leave(r#"{"id":43}"#).without(".from").bytes()).user.id, 43);
}

#[test]
fn members_come_before_the_one_who_left_and_both_before_content() {
    let body = Body::message().set(".left_chat_member", r#"{"id":50}"#).set(".photo", "[]");
    let both = body.clone().set(".new_chat_members", r#"[{"id":43}]"#);
    for (body, expected, user) in [
        (both.clone(), "join", 43),
        (body.clone(), "leave", 50),
        (both.clone().set(".new_chat_members", "[]"), "leave", 50),
        (both.clone().set(".new_chat_members", "null"), "leave", 50),
        (body.set(".left_chat_member", "null").set(".new_chat_members", "[]"), "message", 42),
    ] {
        let fact = only_fact(&body.bytes());
        assert_eq!((fact.what.name(), fact.user.id), (expected, user));
    }
    let ignored_member = both.set(".new_chat_members", r#"[{"id":777000}]"#);
    assert_all("ignored", &[ignored_member.bytes()]);
}

#[test]
fn edits_do_not_tell_of_members() {
    let body = Body::edit().set(".new_chat_members", r#"[{"id":43}]"#).set(".left_chat_member", r#"{"id":50}"#).bytes();
    let fact = only_fact(&body);
    assert_eq!((fact.what.name(), fact.user.id), ("message", 42));
}

#[test]
fn first_of_several_kinds_counts() {
    for (body, source) in several_kinds() {
        match source {
            Some(source) => assert_eq!(only_fact(&body).source_id, source),
            None => assert_all("ignored", &[body]),
        }
    }
}

#[test]
fn both_kinds_of_group_count() {
    for (kind, expected) in
        [("group", ChatKind::Group), ("supergroup", ChatKind::Supergroup), (r"gro\u0075p", ChatKind::Group)]
    {
        let fact = only_fact(&Body::message().set(".chat.type", &format!("\"{kind}\"")).bytes());
        assert_eq!(fact.chat.kind, expected);
        assert!(kind.contains('\\') || fact.chat.kind.name() == kind);
    }
}

#[test]
fn null_is_as_good_as_absent() {
    let optional = [".chat.title", ".from.is_bot", ".from.username", ".from.first_name", ".from.last_name"];
    let always = [
        ".caption",
        ".entities",
        ".caption_entities",
        ".message_thread_id",
        ".is_topic_message",
        ".reply_to_message",
        ".edit_date",
        ".photo",
        ".new_chat_members",
        ".left_chat_member",
        "update.edited_message",
        "update.chat_member",
        "message",
        "update_id",
    ];
    for path in optional {
        assert_eq!(
            event(&Body::message().set(path, "null").bytes()),
            event(&Body::message().without(path).bytes()),
            "{path}"
        );
    }
    for path in always {
        assert_eq!(event(&Body::message().set(path, "null").bytes()), event(&Body::message().bytes()), "{path}");
    }
}

#[test]
fn explicit_org_is_told_and_a_bare_update_has_none() {
    let org = ORG.parse().ok();
    assert_eq!(event(&Body::message().bytes()).org, org);
    assert_eq!(event(&Body::message().set("org_id", &format!("\"{}\"", ORG.to_uppercase())).bytes()).org, org);
    assert_eq!(event(&Body::message().set("org_id", &format!("\"\\u0036{}\"", &ORG[1..])).bytes()).org, org);
    assert_eq!(event(&Body::bare().bytes()).org, None);
    assert_eq!(event(&Body::bare().bytes()).facts, event(&Body::message().bytes()).facts);
}

#[test]
fn fields_of_a_bare_update_beside_an_envelope_are_unknown_ones() {
    let body =
        Body::message().set("update_id", "99").set("message", "{}").set("chat_member", "5").set("edited_message", "[]");
    assert_eq!(event(&body.bytes()), event(&Body::message().bytes()));
}

#[test]
fn joins_and_leaves_in_messages_carry_the_message_id() {
    for (body, expected) in [(Body::join(r#"[{"id":43}]"#), "join"), (Body::leave(r#"{"id":43}"#), "leave")] {
        let fact = only_fact(&body.bytes());
        assert_eq!(
            (fact.what.name(), fact.source_id, fact.date, fact.version.at, fact.version.update_id),
            (expected, 11, DATE, DATE, 7)
        );
    }
}
