//! What facts say: names, texts, counts, topics, versions; and whom a refused body names.

use std::borrow::Cow;

use rollcall::decode::{
    Chat, ChatKind, Event, Fact, Few, Limits, Message, Profile, User, Version, What, decode, org_of,
};
use serde_json::Value;

use crate::body::{Body, DATE, MAX_BODY_BYTES, NOW, ORG, event, limits, message, only_fact};

fn text(json: &str) -> Body {
    Body::message().set(".text", json)
}

fn photo() -> Body {
    Body::message().without(".text").set(".photo", "[{}]")
}

fn profile(username: Option<&str>, first: Option<&str>, last: Option<&str>) -> Profile<'static> {
    let owned = |name: Option<&str>| name.map(|name| name.to_owned().into());
    Profile { username: owned(username), first_name: owned(first), last_name: owned(last) }
}

/// JSON strings, what becomes of them, and how many UTF-16 units that has.
pub fn strings() -> Vec<(String, String, i32)> {
    let replaced = "\u{fffd}";
    let cases: [(&str, &str, i32); 31] = [
        (r#""""#, "", 0),
        (r#""a""#, "a", 1),
        (r#""👍""#, "👍", 2),
        (r#""\ud83d\ude00""#, "😀", 2),
        (r#""\uD83D\uDE00x""#, "😀x", 3),
        ("\"👩\u{200d}🚀\"", "👩\u{200d}🚀", 5),
        ("\"👨\u{200d}👩\u{200d}👧\u{200d}👦\"", "👨\u{200d}👩\u{200d}👧\u{200d}👦", 11),
        ("\"\u{e9}\"", "\u{e9}", 1),
        ("\"e\u{301}\"", "e\u{301}", 2),
        ("\"\u{200f}שלום\u{202e}gnp.exe\"", "\u{200f}שלום\u{202e}gnp.exe", 13),
        ("\"会议\"", "会议", 2),
        ("\"\u{10ffff}\u{ffff}\u{e000}\"", "\u{10ffff}\u{ffff}\u{e000}", 4),
        ("\" a\u{7f}\u{85}\u{a0} \"", " a\u{7f}\u{85}\u{a0} ", 6),
        (r#"" \t\r\n\b\f\/\\\" ""#, " \t\r\n\u{8}\u{c}/\\\" ", 10),
        (r#""\u001b[2J\u0007""#, "\u{1b}[2J\u{7}", 5),
        (r#""'; DROP TABLE x;-- <b>{{7*7}}%s$$""#, "'; DROP TABLE x;-- <b>{{7*7}}%s$$", 33),
        ("\"\u{feff}a\"", "\u{feff}a", 2),
        (r#""\ufeff\ufffe\uffff""#, "\u{feff}\u{fffe}\u{ffff}", 3),
        (r#""\\u0000\\ud800""#, "\\u0000\\ud800", 12),
        // What strings cannot hold.
        (r#""\u0000""#, replaced, 1),
        (r#""a\u0000b\u0000""#, "a\u{fffd}b\u{fffd}", 4),
        (r#""\ud83d""#, replaced, 1),
        (r#""\ude00x""#, "\u{fffd}x", 2),
        (r#""a\uD800b""#, "a\u{fffd}b", 3),
        (r#""\udbff\udbff""#, "\u{fffd}\u{fffd}", 2),
        (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}", 2),
        (r#""\ud83d\ud83d\ude00\ude00""#, "\u{fffd}😀\u{fffd}", 4),
        (r#""\ud83d\u0041""#, "\u{fffd}A", 2),
        (r#""\ud83d\u0000""#, "\u{fffd}\u{fffd}", 2),
        (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}", 3),
        (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00", 7),
    ];
    cases.map(|(json, value, units)| (json.to_owned(), value.to_owned(), units)).into()
}

/// Lists of entities with the links and mentions in them.
pub fn entities() -> Vec<(&'static str, i32, i32)> {
    vec![
        ("[]", 0, 0),
        ("null", 0, 0),
        (r#"[{"type":"url"}]"#, 1, 0),
        (r#"[{"type":"text_link","url":5}]"#, 1, 0),
        (r#"[{"type":"mention"}]"#, 0, 1),
        (r#"[{"type":"text_mention","user":{"id":"x"}}]"#, 0, 1),
        (r#"[{"type":"url"},{"type":"url"},{"type":"text_link"},{"type":"mention"},{"type":"text_mention"}]"#, 3, 2),
        (
            r#"[{"type":"bold"},{"type":"hashtag"},{"type":"email"},{"type":"phone_number"},{"type":"bot_command"},{"type":"cashtag"}]"#,
            0,
            0,
        ),
        (r#"[{"type":"URL"},{"type":"url "},{"type":""},{"type":"mentions"}]"#, 0, 0),
        (r#"[{"type":"url","offset":"x","length":-1,"offset":1}]"#, 1, 0),
        (r#"[{"type":"\u0075rl"},{"zzz":[[]],"type":"mention"}]"#, 1, 1),
    ]
}

/// A message's reply, thread and topic flag, and the reply that counts.
pub fn topics() -> Vec<(Vec<u8>, Option<i64>, Option<i64>)> {
    let case = |reply: Option<&str>, thread: Option<&str>, is_topic: Option<&str>| {
        let fields =
            [(".reply_to_message.message_id", reply), (".message_thread_id", thread), (".is_topic_message", is_topic)];
        fields
            .into_iter()
            .filter_map(|(path, raw)| Some((path, raw?)))
            .fold(Body::message(), |body, (path, raw)| body.set(path, raw))
            .bytes()
    };
    vec![
        (case(None, None, None), None, None),
        (case(Some("5"), None, None), Some(5), None),
        (case(None, Some("5"), None), None, Some(5)),
        (case(Some("6"), Some("5"), None), Some(6), Some(5)),
        (case(Some("6"), Some("5"), Some("true")), Some(6), Some(5)),
        (case(Some("5"), Some("5"), Some("true")), None, Some(5)),
        (case(Some("5"), Some("5"), Some("false")), Some(5), Some(5)),
        (case(Some("5"), Some("5"), Some("null")), Some(5), Some(5)),
        (case(Some("5"), Some("5"), None), Some(5), Some(5)),
        (case(Some("5"), None, Some("true")), Some(5), None),
        (case(Some("5"), Some("null"), Some("true")), Some(5), None),
        (case(None, Some("5"), Some("true")), None, Some(5)),
        (case(Some("11"), None, None), Some(11), None),
        (case(Some("9007199254740992"), Some("9007199254740991"), Some("true")), Some(1 << 53), Some((1 << 53) - 1)),
    ]
}

/// The names of a user in JSON, and what is kept of them.
pub fn names() -> Vec<(&'static str, Profile<'static>)> {
    vec![
        (r#"{"id":42}"#, profile(None, None, None)),
        (r#"{"id":42,"first_name":"","last_name":"","username":""}"#, profile(None, None, None)),
        (r#"{"id":42,"first_name":null,"last_name":null,"username":null}"#, profile(None, None, None)),
        (r#"{"id":42,"first_name":"Ada"}"#, profile(None, Some("Ada"), None)),
        (r#"{"id":42,"last_name":"Lovelace","username":"ada"}"#, profile(Some("ada"), None, Some("Lovelace"))),
        (r#"{"id":42,"first_name":" ","last_name":"\t"}"#, profile(None, Some(" "), Some("\t"))),
        (r#"{"id":42,"first_name":"\u0000","username":"\ud800"}"#, profile(Some("\u{fffd}"), Some("\u{fffd}"), None)),
        (
            r#"{"id":42,"first_name":"👩‍🚀","last_name":"\u202eKo\u0301"}"#,
            profile(None, Some("👩‍🚀"), Some("\u{202e}Ko\u{301}")),
        ),
        (
            r#"{"id":42,"username":"@ada","first_name":"A","last_name":"L"}"#,
            profile(Some("@ada"), Some("A"), Some("L")),
        ),
    ]
}

/// All of these tables as bodies.
pub fn bodies() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for (json, _, _) in strings() {
        bodies.push(text(&json).bytes());
        bodies.push(photo().set(".caption", &json).bytes());
        bodies.push(
            Body::message()
                .set(".chat.title", &json)
                .set(".from.username", &json)
                .set(".from.last_name", &json)
                .bytes(),
        );
    }
    for (list, _, _) in entities() {
        bodies.push(text("\"a\"").set(".entities", list).bytes());
        bodies.push(photo().set(".caption", "\"a\"").set(".caption_entities", list).bytes());
        bodies.push(photo().set(".caption_entities", list).bytes());
    }
    bodies.extend(topics().into_iter().map(|(body, _, _)| body));
    for (user, _) in names() {
        bodies.push(Body::message().set(".from", user).bytes());
        bodies.push(Body::came().set(".new_chat_member.user", user).bytes());
        bodies.push(Body::join(&format!("[{user}]")).bytes());
    }
    bodies
}

#[test]
fn message_arrives_whole() {
    let body = Body::message()
        .set(".reply_to_message", r#"{"message_id":3,"chat":{"id":"x"}}"#)
        .set(".message_thread_id", "2")
        .set(".is_topic_message", "true")
        .set(".entities", r#"[{"type":"url"},{"type":"mention"}]"#);
    let written = Message {
        is_edit: false,
        thread_id: Some(2),
        reply_to: Some(3),
        media: None,
        text: Some("hello".into()),
        chars: 5,
        links: 1,
        mentions: 1,
    };
    let fact = Fact {
        chat: Chat { id: -1_001_234_567_890, kind: ChatKind::Supergroup, title: Some("Ops".into()) },
        user: User { id: 42, profile: profile(Some("ada"), Some("Ada"), Some("Lovelace")) },
        version: Version { at: DATE, update_id: 7 },
        date: DATE,
        source_id: 11,
        what: What::Message(Box::new(written)),
    };
    let event = event(&body.bytes());
    assert_eq!(event.chat_id(), -1_001_234_567_890);
    assert_eq!(event, Event { org: ORG.parse().ok(), facts: Few::One(fact) });
}

#[test]
fn edit_keeps_the_original_date_and_is_as_new_as_its_edit_date() {
    let fact = only_fact(&Body::edit().bytes());
    assert_eq!((fact.date, fact.version, fact.source_id), (DATE, Version { at: DATE + 60, update_id: 8 }, 11));
    assert!(message(&Body::edit().bytes()).is_edit);
    assert!(!message(&Body::message().bytes()).is_edit);
}

#[test]
fn edit_may_be_older_than_its_message() {
    // Clocks differ; the law needs no order here.
    let fact = only_fact(&Body::edit().set(".edit_date", &(DATE - 5).to_string()).bytes());
    assert_eq!((fact.date, fact.version.at), (DATE, DATE - 5));
}

#[test]
fn message_is_dated_by_its_date_whatever_its_edit_date() {
    let fact = only_fact(&Body::message().set(".edit_date", &(DATE + 9).to_string()).bytes());
    assert_eq!((fact.date, fact.version.at), (DATE, DATE));
}

#[test]
fn versions_compare_by_time_and_then_by_update() {
    let version = |at, update_id| Version { at, update_id };
    assert!(version(2, 1) > version(1, 9) && version(1, 2) > version(1, 1) && version(1, 1) == version(1, 1));
}

#[test]
fn text_is_kept_and_counted_in_utf_16_units() {
    for (json, value, units) in strings() {
        let found = message(&text(&json).bytes());
        assert_eq!((found.text, found.chars), (Some(value.into()), units), "{json}");
    }
}

#[test]
fn caption_is_kept_like_text() {
    for (json, value, units) in strings() {
        let found = message(&photo().set(".caption", &json).bytes());
        assert_eq!((found.text, found.chars, found.media), (Some(value.into()), units, Some("photo")), "{json}");
    }
}

#[test]
fn names_and_titles_are_kept_like_text_unless_empty() {
    for (json, value, _) in strings() {
        let fact = only_fact(
            &Body::message()
                .set(".chat.title", &json)
                .set(".from.username", &json)
                .set(".from.last_name", &json)
                .bytes(),
        );
        let value = Some(Cow::from(value)).filter(|value| !value.is_empty());
        assert_eq!(fact.chat.title, value, "{json}");
        assert_eq!((fact.user.profile.username, fact.user.profile.last_name), (value.clone(), value), "{json}");
    }
}

#[test]
fn lone_surrogate_becomes_replacement_character_in_unread_places_too() {
    for (path, raw) in [
        (".zzz", r#""\ud800\u0000""#),
        (".photo", r#"["\udfff"]"#),
        ("zzz", r#"{"\ud800":"\u0000"}"#),
        (".reply_to_message.message_id", r#"5,"\udc00":"\u0000""#),
    ] {
        assert_eq!(only_fact(&Body::message().set(path, raw).bytes()).source_id, 11, "{path}");
    }
}

#[test]
fn text_comes_before_caption_even_when_empty() {
    let both = |text: &str, caption: &str| message(&text_and_caption(text, caption).bytes());
    assert_eq!(both("\"a\"", "\"bc\"").text.as_deref(), Some("a"));
    assert_eq!(both("\"\"", "\"bc\"").text.as_deref(), Some(""));
    assert_eq!(both("null", "\"bc\"").text.as_deref(), Some("bc"));
    assert_eq!(both("null", "null").text, None);
    assert_eq!(both("null", "null").chars, 0);
}

fn text_and_caption(text: &str, caption: &str) -> Body {
    photo().set(".text", text).set(".caption", caption)
}

#[test]
fn entities_belong_to_text_and_caption_entities_to_caption() {
    for (list, links, mentions) in entities() {
        let counted = |body: Body| {
            let found = message(&body.bytes());
            (found.links, found.mentions)
        };
        let other = r#"[{"type":"url"},{"type":"mention"},{"type":"url"},{"type":"mention"},{"type":"url"},{"type":"url"},{"type":"mention"}]"#;
        assert_eq!(counted(text("\"a\"").set(".entities", list)), (links, mentions), "{list}");
        assert_eq!(
            counted(text("\"\"").set(".entities", list).set(".caption_entities", other)),
            (links, mentions),
            "{list}"
        );
        assert_eq!(
            counted(photo().set(".caption", "\"a\"").set(".caption_entities", list)),
            (links, mentions),
            "{list}"
        );
        assert_eq!(
            counted(photo().set(".caption", "\"a\"").set(".caption_entities", list).set(".entities", other)),
            (links, mentions),
            "{list}"
        );
    }
}

#[test]
fn message_under_its_topics_root_is_no_reply() {
    for (body, reply, thread) in topics() {
        let found = message(&body);
        assert_eq!((found.reply_to, found.thread_id), (reply, thread), "{}", body.escape_ascii());
    }
}

#[test]
fn text_that_is_not_stored_is_still_counted() {
    let unstored = Limits { store_text: false, ..limits() };
    let body = text(r#""👍 \u0000""#).set(".entities", r#"[{"type":"url"},{"type":"mention"}]"#).set(".voice", "{}");
    let captioned =
        photo().set(".caption", r#""👍 x""#).set(".caption_entities", r#"[{"type":"url"},{"type":"mention"}]"#);
    for body in [body, captioned] {
        let body = body.bytes();
        let Ok(Some(event)) = decode(&body, &unstored, NOW) else { panic!("expected facts") };
        let stored = message(&body);
        assert_eq!(event.facts[0].what, What::Message(Box::new(Message { text: None, ..stored.clone() })));
        assert_eq!((stored.chars, stored.links, stored.mentions), (4, 1, 1));
        assert!(stored.text.is_some());
    }
}

#[test]
fn text_of_a_mebibyte_is_kept() {
    let room = MAX_BODY_BYTES - text("\"\"").bytes().len();
    for (unit, bytes, units) in [("x", 1, 1), ("é", 2, 1), ("👍", 4, 2)] {
        let long = unit.repeat(room / bytes);
        let found = message(&text(&format!("\"{long}\"")).bytes());
        assert_eq!(usize::try_from(found.chars), Ok(room / bytes * units));
        assert!(found.text == Some(long.into()));
    }
}

#[test]
fn empty_and_absent_names_are_none_and_others_untouched() {
    for (user, expected) in names() {
        assert_eq!(only_fact(&Body::message().set(".from", user).bytes()).user.profile, expected, "{user}");
        assert_eq!(only_fact(&Body::edit().set(".from", user).bytes()).user.profile, expected, "{user}");
        assert_eq!(only_fact(&Body::join(&format!("[{user}]")).bytes()).user.profile, expected, "{user}");
        assert_eq!(only_fact(&Body::leave(user).bytes()).user.profile, expected, "{user}");
        assert_eq!(
            only_fact(&Body::came().set(".new_chat_member.user", user).bytes()).user.profile,
            expected,
            "{user}"
        );
    }
}

#[test]
fn full_name_is_first_and_last_else_username_else_the_id() {
    for (username, first, last, expected) in [
        (Some("ada"), Some("Ada"), Some("Lovelace"), "Ada Lovelace"),
        (Some("ada"), Some("Ada"), None, "Ada"),
        (Some("ada"), None, Some("Lovelace"), "Lovelace"),
        (Some("ada"), None, None, "ada"),
        (None, None, None, "User 42"),
        (None, Some(" Ada "), Some(" "), " Ada   "),
        (None, Some(" "), None, " "),
    ] {
        assert_eq!(profile(username, first, last).full_name(42), expected);
    }
}

#[test]
fn empty_or_absent_title_is_none() {
    for body in [
        Body::message().set(".chat.title", "\"\""),
        Body::message().set(".chat.title", "null"),
        Body::message().without(".chat.title"),
    ] {
        assert_eq!(only_fact(&body.bytes()).chat.title, None);
    }
}

#[test]
fn refused_body_names_its_org_where_it_can_be_read() {
    let org = ORG.parse().ok();
    let refused = |body: Body| {
        let bytes = body.bytes();
        assert!(decode(&bytes, &limits(), NOW).is_err());
        org_of(&bytes, MAX_BODY_BYTES)
    };
    for body in [
        Body::message().set(".date", "0"),
        Body::message().set(".date", "\"x\""),
        Body::message().without("update"),
        Body::message().set("update", "5"),
        Body::message().set("update", "1e999"),
        Body::message().doubled("update"),
        Body::message().set("update.update_id", "1.0"),
        Body::message().set("update.update_id", "0").set("zzz", "1e999"),
        Body::bare().without("update_id").set("org_id", &format!("\"{ORG}\"")),
        Body::bare().set("org_id", &format!("\"{ORG}\"")),
        Body::message().set("org_id", &format!("\"{}\"", ORG.to_uppercase())).set(".date", "0"),
        Body::message().set("org_id", &format!("\"\\u0036{}\"", &ORG[1..])).set(".date", "0"),
        Body::message().set(".date", r#"0,"zzz":"\ud800\u0000""#),
    ] {
        assert_eq!(refused(body.clone()), org, "{body:?}");
    }
    for body in [
        Body::message().set("org_id", "null"),
        Body::message().set("org_id", "5"),
        Body::message().set("org_id", "1e999"),
        Body::message().set("org_id", "[]"),
        Body::message().set("org_id", "\"nobody\""),
        Body::message().set("org_id", &format!("\"{{{ORG}}}\"")),
        Body::message().set("org_id", &format!("\"{}\"", ORG.replace('-', ""))),
        Body::message().set("org_id", &format!("\"urn:uuid:{ORG}\"")),
        Body::message().set("org_id", &format!("\"{ORG} \"")),
        Body::message().without("org_id"),
        // Which of two is meant, nobody knows.
        Body::message().doubled("org_id"),
        Body::message().twice("org_id", "null"),
        Body::bare().set(".date", "0"),
        // Malformed.
        Body::message().set(".zzz", "NaN"),
        Body::message().set(".zzz", "\"\n\""),
        Body::message().set(".zzz", &"[".repeat(99)),
    ] {
        assert_eq!(refused(body.clone()), None, "{body:?}");
    }
}

#[test]
fn org_is_not_sought_in_bodies_that_are_too_large_or_malformed() {
    let org = ORG.parse().ok();
    let body = Body::message().bytes();
    assert_eq!(org_of(&body, body.len()), org);
    assert_eq!(org_of(&body, body.len() - 1), None);
    let broken: [Vec<u8>; 7] = [
        body[..body.len() - 1].to_vec(),
        [&body[..], b"x"].concat(),
        [&b"\xef\xbb\xbf"[..], &body].concat(),
        [&body[..], b"\xff"].concat(),
        [&b"["[..], &body, b"]"].concat(),
        Vec::new(),
        format!("\"{ORG}\"").into_bytes(),
    ];
    for body in broken {
        assert_eq!(org_of(&body, MAX_BODY_BYTES), None, "{}", body.escape_ascii());
    }
}

#[test]
fn org_of_an_accepted_body_is_the_events() {
    for body in [Body::message(), Body::edit(), Body::came(), Body::bare()] {
        assert_eq!(org_of(&body.bytes(), MAX_BODY_BYTES), event(&body.bytes()).org);
    }
}

#[test]
fn refusals_name_no_text_and_no_person() {
    let secret = "Kassandra";
    let value = Value::from(secret).to_string();
    for path in [
        "org_id",
        "update",
        "update.update_id",
        "update.message",
        ".message_id",
        ".date",
        ".chat",
        ".chat.id",
        ".from",
        ".from.id",
        ".from.is_bot",
        ".entities",
        ".zzz",
        ".reply_to_message",
        ".reply_to_message.message_id",
        ".message_thread_id",
        ".new_chat_members",
        ".left_chat_member",
    ] {
        for raw in [
            value.clone(),
            format!("{value}{value}"),
            format!(r#""{secret}\x""#),
            secret.to_owned(),
            format!("{{{value}:0}}"),
            format!("[{value}]"),
            format!("{{{value}}}"),
        ] {
            if let Err(refusal) = decode(&Body::message().set(path, &raw).bytes(), &limits(), NOW) {
                assert!(!refusal.to_string().contains(secret), "{refusal}");
            }
        }
    }
}
