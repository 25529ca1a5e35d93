//! `invalid_envelope`: no envelope, a wrong type where a fact needs a value, a needed field missing.

use serde_json::json;

use crate::body::{Body, MAX_ID, ORG, assert_all};

/// What is no integer.
const NO_INTEGERS: [&str; 15] = [
    "1.0",
    "1e3",
    "-1.5",
    "1E400",
    "1e19",
    "-9223372036854775809.5",
    "0.0",
    "-0.0",
    "true",
    "false",
    "\"1\"",
    "\"\"",
    "[]",
    "{}",
    "[1]",
];
const NO_STRINGS: [&str; 9] = ["5", "0", "1.5", "true", "false", "[]", "{}", "[\"a\"]", "1e999"];
const NO_FLAGS: [&str; 7] = ["0", "1", "\"true\"", "\"no\"", "\"\"", "[]", "{}"];
const NO_OBJECTS: [&str; 8] = ["5", "0", "\"x\"", "\"\"", "true", "false", "[]", "[{}]"];
const NO_LISTS: [&str; 6] = ["5", "\"x\"", "\"\"", "true", "{}", "{\"0\":{}}"];
const ABSENT: [&str; 1] = ["null"];

fn each(body: &Body, path: &str, values: &[&str]) -> Vec<Vec<u8>> {
    values.iter().map(|value| body.clone().set(path, value).bytes()).collect()
}

/// A place whose value has to be there and of one type.
fn needed(body: &Body, path: &str, wrong: &[&str]) -> Vec<Vec<u8>> {
    [each(body, path, wrong), each(body, path, &ABSENT), vec![body.clone().without(path).bytes()]].concat()
}

fn every_kind() -> Vec<Body> {
    vec![Body::message(), Body::edit(), join(), leave(), Body::came(), gone(), Body::bare()]
}

fn join() -> Body {
    Body::join(r#"[{"id":43}]"#)
}

fn leave() -> Body {
    Body::leave(r#"{"id":43}"#)
}

fn gone() -> Body {
    Body::chat_member(&json!({ "status": "administrator" }), &json!({ "status": "left" }))
}

fn reply() -> Body {
    Body::message().set(".reply_to_message", r#"{"message_id":5}"#)
}

fn topic() -> Body {
    reply().set(".message_thread_id", "5")
}

fn photo() -> Body {
    Body::message().without(".text").set(".photo", "[{}]").set(".caption", "\"seen\"")
}

/// An update that says nothing about anybody.
fn silent() -> Body {
    Body::message().without("update.message").set("update.poll", "{}")
}

pub fn neither_envelope_nor_bare() -> Vec<Vec<u8>> {
    let update = r#"{"update_id":7}"#;
    let mut bodies: Vec<Vec<u8>> = [
        "[]",
        "[[]]",
        "[{}]",
        "{}",
        "\"hi\"",
        "\"\"",
        "null",
        "true",
        "false",
        "0",
        "1",
        "-0",
        "1.5",
        "1e3",
        "1e999",
        "-1E+999",
        " null ",
        r#"{"zzz":1}"#,
        r#"{"":{}}"#,
        r#"{"Update_id":7}"#,
        r#"{"update_id ":7}"#,
        r#"{"ORG_ID":7}"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    bodies.push(format!("1{}", "0".repeat(400)).into_bytes());
    bodies.push(format!(r#"["{ORG}",{update}]"#).into_bytes());
    bodies.push(format!(r#"[{{"org_id":"{ORG}","update":{update}}}]"#).into_bytes());
    bodies.push(format!("[1,{update}]").into_bytes());
    bodies.push(format!("\"{ORG}\"").into_bytes());
    // As an update would be with its id lost.
    bodies.push(Body::bare().without("update_id").bytes());
    bodies.push(Body::bare().without("update_id").set("zzz", "7").bytes());
    bodies
}

pub fn wrong_org_ids() -> Vec<Vec<u8>> {
    let simple = ORG.replace('-', "");
    let texts = [
        String::new(),
        "nobody".into(),
        "1".into(),
        simple.clone(),
        format!("{simple}----"),
        format!("----{simple}"),
        format!("{{{ORG}}}"),
        format!("{{{simple}}}"),
        format!("urn:uuid:{ORG}"),
        format!("URN:UUID:{ORG}"),
        format!("{ORG} "),
        format!(" {ORG}"),
        format!("{ORG}\\n"),
        format!("{ORG}\\u0000"),
        format!("{ORG}0"),
        ORG[1..].into(),
        ORG[..35].into(),
        format!("g{}", &ORG[1..]),
        format!("+{}", &ORG[1..]),
        format!("-{}", &ORG[1..]),
        format!(" {}", &ORG[1..]),
        format!("\\u0000{}", &ORG[1..]),
        format!("\\ud800{}", &ORG[1..]),
        format!("é{}", &ORG[1..]),
        format!("é{}", &ORG[2..]),
        format!("\u{ff16}{}", &ORG[1..]),
        format!("\u{ff16}{}", &ORG[3..]),
        ORG.replace('-', "_"),
        ORG.replace('-', "\u{2010}"),
        ORG.replace('-', "0"),
        "6f1d5f0e9-c0b-4a57-8f7e-3d1b2a4c5e6f".into(),
        "6f1d5f0-e9c0b-4a57-8f7e-3d1b2a4c5e6f".into(),
        "6f1d5f0e-9c0b-4a57-8f7e3-d1b2a4c5e6f".into(),
        "6f1d5f0e-9c0b-4a578-f7e-3d1b2a4c5e6f".into(),
    ];
    let quoted = texts.map(|text| format!("\"{text}\""));
    let wrong: Vec<&str> = quoted.iter().map(String::as_str).chain(NO_STRINGS).collect();
    [
        needed(&Body::message(), "org_id", &wrong),
        needed(&silent(), "org_id", &wrong),
        vec![
            Body::message().doubled("org_id").bytes(),
            Body::message().twice("org_id", "null").bytes(),
            Body::message().set("org_id", "null").twice("org_id", &format!("\"{ORG}\"")).bytes(),
            Body::message().twice("org_id", "\"00000000-0000-0000-0000-000000000000\"").bytes(),
            // A bare update whose producer meant to name an organization must not reach all of them.
            Body::bare().set("org_id", "null").bytes(),
            Body::bare().set("org_id", "\"\"").bytes(),
            Body::bare().set("org_id", &format!("\"{ORG}\"")).bytes(),
        ],
    ]
    .concat()
}

pub fn wrong_updates() -> Vec<Vec<u8>> {
    let lost = [
        Body::bare().set("update", "null"),
        Body::bare().set("update", r#"{"update_id":7}"#),
        Body::bare().set("update", "[]"),
    ];
    let mut bodies = needed(&Body::message(), "update", &NO_OBJECTS);
    bodies.extend(each(&Body::message(), "update", &["{}", r#"{"zzz":1}"#, "1e999", r#"[{"update_id":7}]"#]));
    bodies.extend(lost.map(|body| body.bytes()));
    bodies.push(Body::message().doubled("update").bytes());
    bodies.push(Body::message().twice("update", "null").bytes());
    bodies
}

pub fn wrong_update_ids() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    let enveloped = [Body::message(), Body::edit(), join(), leave(), Body::came(), gone(), silent()]
        .map(|body| (body, "update.update_id"));
    for (body, path) in enveloped.into_iter().chain([(Body::bare(), "update_id")]) {
        bodies.extend(needed(&body, path, &NO_INTEGERS));
        bodies.push(body.clone().doubled(path).bytes());
        bodies.push(body.twice(path, "null").bytes());
    }
    bodies.extend(
        [r#"{"update_id":1.0}"#, r#"{"update_id":true}"#, r#"{"update_id":null}"#, r#"{"update_id":"7"}"#]
            .map(|text| text.as_bytes().to_vec()),
    );
    bodies
}

pub fn wrong_kinds() -> Vec<Vec<u8>> {
    let wrong = [&NO_OBJECTS[..], &["{}", "1e999"]].concat();
    ["update.message", "update.edited_message", "update.chat_member"]
        .iter()
        .flat_map(|kind| each(&silent(), kind, &wrong))
        .collect()
}

pub fn wrong_chats() -> Vec<Vec<u8>> {
    let service = Body::message().without(".text").set(".pinned_message", "{}");
    let mut bodies = Vec::new();
    for body in every_kind() {
        bodies.extend(needed(&body, ".chat.id", &NO_INTEGERS));
        bodies.extend(each(&body, ".chat.title", &NO_STRINGS));
    }
    for body in every_kind().into_iter().chain([service]) {
        bodies.extend(needed(&body, ".chat", &NO_OBJECTS));
        bodies.extend(needed(&body, ".chat.type", &NO_STRINGS));
        bodies.extend([".chat", ".chat.type"].map(|path| body.clone().doubled(path).bytes()));
    }
    bodies
}

pub fn wrong_ids_and_dates() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for body in every_kind() {
        bodies.extend(needed(&body, ".date", &NO_INTEGERS));
    }
    for body in [Body::message(), Body::edit(), join(), leave(), Body::bare()] {
        bodies.extend(needed(&body, ".message_id", &NO_INTEGERS));
    }
    bodies.extend(needed(&Body::edit(), ".edit_date", &NO_INTEGERS));
    bodies
}

pub fn wrong_users() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for (body, user) in [
        (Body::message(), ".from"),
        (Body::edit(), ".from"),
        (Body::came(), ".new_chat_member.user"),
        (gone(), ".new_chat_member.user"),
    ] {
        bodies.extend(each(&body, user, &NO_OBJECTS));
        bodies.extend(each(&body, user, &["{}", r#"{"first_name":"Ada"}"#]));
        bodies.extend(needed(&body, &format!("{user}.id"), &NO_INTEGERS));
        bodies.extend(each(&body, &format!("{user}.is_bot"), &NO_FLAGS));
        for name in ["username", "first_name", "last_name"] {
            bodies.extend(each(&body, &format!("{user}.{name}"), &NO_STRINGS));
        }
        bodies.extend(
            ["", ".id", ".is_bot", ".username", ".first_name", ".last_name"]
                .map(|field| body.clone().doubled(&format!("{user}{field}")).bytes()),
        );
    }
    bodies.extend(needed(&Body::came(), ".new_chat_member.user", &[]));
    // A system account's id saves nobody from a flag of the wrong type.
    bodies.push(Body::message().set(".from", r#"{"id":777000,"is_bot":1}"#).bytes());
    bodies.push(Body::message().set(".from", r#"{"id":777000.0}"#).bytes());
    bodies
}

pub fn wrong_members() -> Vec<Vec<u8>> {
    let mut bodies = each(&join(), ".new_chat_members", &["5", "\"x\"", "true", r#"{"0":{"id":1}}"#, "1.5"]);
    let fault = [
        "5",
        "null",
        "\"x\"",
        "\"\"",
        "true",
        "[]",
        "[{}]",
        "{}",
        r#"{"id":null}"#,
        r#"{"id":"1"}"#,
        r#"{"id":1.0}"#,
        r#"{"id":true}"#,
        r#"{"id":1,"is_bot":0}"#,
        r#"{"id":1,"first_name":5}"#,
        r#"{"id":1,"last_name":[]}"#,
        r#"{"id":1,"username":false}"#,
        r#"{"id":1,"id":1}"#,
        r#"{"is_bot":"yes"}"#,
    ];
    for fault in fault {
        for members in [
            format!("[{fault}]"),
            format!(r#"[{{"id":43}},{fault}]"#),
            format!(r#"[{fault},{{"id":43}}]"#),
            format!(r#"[{{"id":777000}},{fault},{{"id":43}}]"#),
            format!(r#"[{{"id":9,"is_bot":true}},{fault}]"#),
        ] {
            bodies.push(Body::join(&members).bytes());
        }
        if fault != "null" {
            bodies.push(Body::leave(fault).bytes());
        }
    }
    // The text beside the members does not save them.
    bodies.push(Body::message().set(".new_chat_members", "[5]").bytes());
    bodies.push(Body::message().set(".left_chat_member", "5").bytes());
    bodies.push(join().doubled(".new_chat_members").bytes());
    bodies.push(join().twice(".new_chat_members", "[]").bytes());
    bodies.push(leave().doubled(".left_chat_member").bytes());
    bodies
}

pub fn wrong_memberships() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for body in [Body::came(), gone()] {
        for member in [".old_chat_member", ".new_chat_member"] {
            bodies.extend(needed(&body, member, &NO_OBJECTS));
            bodies.extend(each(&body, member, &["{}", r#"{"user":{"id":1}}"#]));
            bodies.extend(needed(&body, &format!("{member}.status"), &NO_STRINGS));
            bodies.extend(["", ".status"].map(|field| body.clone().doubled(&format!("{member}{field}")).bytes()));
            let restricted = body.clone().set(&format!("{member}.status"), "\"restricted\"");
            bodies.extend(each(&restricted, &format!("{member}.is_member"), &NO_FLAGS));
            bodies.push(
                restricted.set(&format!("{member}.is_member"), "true").doubled(&format!("{member}.is_member")).bytes(),
            );
        }
        bodies.push(body.doubled(".new_chat_member.user").bytes());
    }
    bodies
}

pub fn wrong_content() -> Vec<Vec<u8>> {
    let fault = [
        "5",
        "null",
        "\"url\"",
        "true",
        "[]",
        "[[]]",
        "{}",
        r#"{"type":null}"#,
        r#"{"type":5}"#,
        r#"{"type":[]}"#,
        r#"{"type":"url","type":"url"}"#,
    ];
    let good = r#"{"type":"url"}"#;
    let mut bodies = Vec::new();
    for (body, list) in [
        (Body::message(), ".entities"),
        (Body::edit(), ".entities"),
        (photo(), ".caption_entities"),
        (photo().without(".caption"), ".caption_entities"),
    ] {
        bodies.extend(each(&body, list, &NO_LISTS));
        for fault in fault {
            bodies.extend(each(
                &body,
                list,
                &[&format!("[{fault}]"), &format!("[{good},{fault}]"), &format!("[{fault},{good}]")],
            ));
        }
        bodies.push(body.set(list, "[]").doubled(list).bytes());
    }
    for body in [Body::message(), Body::edit(), photo()] {
        bodies.extend(each(&body, ".text", &NO_STRINGS));
        bodies.extend(each(&body, ".caption", &NO_STRINGS));
        bodies.extend(each(&body, ".message_thread_id", &NO_INTEGERS));
        bodies.extend(each(&body, ".reply_to_message", &NO_OBJECTS));
        bodies.extend(each(
            &body,
            ".reply_to_message",
            &["{}", r#"{"message_id":null}"#, r#"{"message_id":5,"message_id":5}"#],
        ));
        bodies.extend(each(&body.set(".reply_to_message", "{}"), ".reply_to_message.message_id", &NO_INTEGERS));
    }
    bodies.extend(each(&topic(), ".is_topic_message", &NO_FLAGS));
    bodies
}

pub fn doubled_content() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "update.message",
        ".chat",
        ".chat.id",
        ".chat.type",
        ".chat.title",
        ".from",
        ".from.id",
        ".date",
        ".message_id",
        ".text",
    ]
    .map(|path| Body::message().doubled(path).bytes())
    .into();
    bodies.push(Body::message().twice("update.message", "null").bytes());
    bodies.push(Body::message().twice(".date", "null").bytes());
    bodies.push(Body::message().twice(".text", "null").bytes());
    bodies.push(Body::message().set(".text", "null").twice(".text", "\"hello\"").bytes());
    bodies.push(Body::message().set(".chat.title", "null").doubled(".chat.title").bytes());
    bodies.push(Body::message().set(".zzz", r#"0,"\u0064ate":1"#).bytes());
    bodies.push(Body::message().set(".caption", "null").doubled(".caption").bytes());
    bodies.push(photo().doubled(".caption").bytes());
    bodies.push(reply().doubled(".reply_to_message").bytes());
    bodies.push(topic().doubled(".message_thread_id").bytes());
    bodies.push(topic().set(".is_topic_message", "true").doubled(".is_topic_message").bytes());
    bodies.push(Body::edit().doubled(".edit_date").bytes());
    bodies.push(Body::edit().doubled("update.edited_message").bytes());
    bodies.push(Body::came().doubled("update.chat_member").bytes());
    bodies.push(Body::came().doubled(".date").bytes());
    bodies
}

/// Keys given twice, or values of the wrong type, where nothing depends on them.
pub fn of_no_matter() -> Vec<Vec<u8>> {
    let mut bodies = vec![
        Body::message().set("zzz", "1").doubled("zzz").bytes(),
        Body::message().set(".zzz", "1").doubled(".zzz").bytes(),
        Body::message().set(".from.language_code", "1").doubled(".from.language_code").bytes(),
        Body::message().set("update.chat_member", "5").doubled("update.chat_member").bytes(),
        Body::message().set("update.edited_message", "5").bytes(),
        Body::message().set(".edit_date", "\"x\"").doubled(".edit_date").bytes(),
        Body::message().set(".left_chat_member", "null").bytes(),
        Body::message().set(".caption", "\"x\"").set(".caption_entities", "5").bytes(),
        Body::message().set(".caption_entities", "[5]").doubled(".caption_entities").bytes(),
        photo().set(".entities", "5").bytes(),
        photo().set(".entities", "[5]").doubled(".entities").bytes(),
        Body::message().set(".is_topic_message", "\"x\"").bytes(),
        reply().set(".is_topic_message", "5").set(".message_thread_id", "6").bytes(),
        reply().set(".is_topic_message", "5").doubled(".is_topic_message").bytes(),
        reply().set(".reply_to_message.text", "5").doubled(".reply_to_message.text").bytes(),
        Body::message().set(".from.language_code", "[]").set(".from.is_premium", "\"x\"").bytes(),
        Body::message().set("message", "5").doubled("message").bytes(),
        Body::message().set("update_id", "1.0").set("chat_member", "[]").bytes(),
        Body::came().set(".old_chat_member.user", "5").doubled(".old_chat_member.user").bytes(),
        Body::came().set(".new_chat_member.is_member", "5").doubled(".new_chat_member.is_member").bytes(),
        Body::came().set(".from", "5").doubled(".from").bytes(),
        Body::came().set(".message_id", "\"x\"").bytes(),
        Body::came().set(".text", "5").bytes(),
    ];
    for (body, others) in [(join(), ".left_chat_member"), (leave(), ".caption_entities")] {
        for path in [
            ".from",
            ".text",
            ".caption",
            ".entities",
            ".message_thread_id",
            ".is_topic_message",
            ".reply_to_message",
            ".edit_date",
            others,
        ] {
            bodies.push(body.clone().set(path, "5").bytes());
            bodies.push(body.clone().set(path, "\"x\"").doubled(path).bytes());
        }
    }
    for path in [".new_chat_members", ".left_chat_member"] {
        bodies.push(Body::edit().set(path, "[5]").doubled(path).bytes());
    }
    bodies
}

#[test]
fn json_that_is_neither_envelope_nor_bare_update_is_invalid() {
    assert_all("invalid_envelope", &neither_envelope_nor_bare());
}

#[test]
fn org_id_is_a_uuid_in_its_one_form_or_the_envelope_is_invalid() {
    assert_all("invalid_envelope", &wrong_org_ids());
}

#[test]
fn envelope_without_an_update_object_is_invalid() {
    assert_all("invalid_envelope", &wrong_updates());
}

#[test]
fn update_id_is_always_needed_and_an_integer() {
    assert_all("invalid_envelope", &wrong_update_ids());
}

#[test]
fn update_kinds_that_are_no_objects_are_invalid() {
    assert_all("invalid_envelope", &wrong_kinds());
}

#[test]
fn chats_without_what_facts_need_are_invalid() {
    assert_all("invalid_envelope", &wrong_chats());
}

#[test]
fn message_ids_and_dates_are_needed_integers() {
    assert_all("invalid_envelope", &wrong_ids_and_dates());
}

#[test]
fn users_without_what_facts_need_are_invalid() {
    assert_all("invalid_envelope", &wrong_users());
}

#[test]
fn one_bad_member_refuses_the_event() {
    assert_all("invalid_envelope", &wrong_members());
}

#[test]
fn memberships_without_what_facts_need_are_invalid() {
    assert_all("invalid_envelope", &wrong_memberships());
}

#[test]
fn content_of_the_wrong_type_is_invalid() {
    assert_all("invalid_envelope", &wrong_content());
}

#[test]
fn keys_given_twice_where_they_matter_are_invalid() {
    assert_all("invalid_envelope", &doubled_content());
}

#[test]
fn what_no_fact_needs_may_be_anything() {
    assert_all("facts: 1", &of_no_matter());
}

#[test]
fn integers_of_any_length_are_integers() {
    let long = "9".repeat(4_000);
    assert_all(
        "invalid_event",
        &[Body::message().set(".from.id", &long).bytes(), Body::message().set(".date", &format!("-{long}")).bytes()],
    );
    assert_all(
        "facts: 1",
        &[Body::message().set(".zzz", &long).bytes(), Body::message().set(".from.id", &MAX_ID.to_string()).bytes()],
    );
}
