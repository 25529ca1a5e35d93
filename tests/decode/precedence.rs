//! Which of several faults names the refusal, and that an update without facts is never refused.

use serde_json::json;

use crate::body::{Body, MAX_BODY_BYTES, assert_all};

/// Updates without facts, each in an envelope that is fine.
pub fn silent() -> Vec<Body> {
    let bot = r#"{"id":9,"is_bot":true,"first_name":5,"username":[]}"#;
    let system = r#"{"id":777000,"first_name":5,"last_name":{}}"#;
    let unchanged = Body::chat_member(&json!({ "status": "left" }), &json!({ "status": "kicked" }));
    vec![
        Body::message().without("update.message"),
        Body::message().set(".chat.type", "\"private\""),
        Body::message().set(".chat.type", "\"channel\""),
        Body::message().without(".text"),
        Body::message().without(".from"),
        Body::message().set(".from", bot),
        Body::message().set(".from", system),
        Body::join("[]").set(".new_chat_member", "{}"),
        Body::join(&format!("[{bot},{system}]")),
        Body::leave(bot),
        Body::leave(system),
        Body::edit().without(".text"),
        Body::edit().set(".from", bot),
        Body::edit().set(".chat.type", "\"private\""),
        unchanged.clone(),
        unchanged.set(".chat.type", "\"private\""),
        Body::came().set(".chat.type", "\"channel\""),
        Body::came().set(".new_chat_member.user", bot),
        Body::came().set(".new_chat_member.user", system),
    ]
}

/// Silent updates with something wrong that would refuse an update with facts.
pub fn silent_and_wrong() -> Vec<Vec<u8>> {
    let faults = [
        ("update.update_id", "0"),
        ("update.update_id", "-0"),
        ("update.update_id", "9007199254740993"),
        ("update.update_id", "1000000000000000000000000000000"),
        (".date", "\"yesterday\""),
        (".date", "0"),
        (".date", "null"),
        (".message_id", "1.0"),
        (".message_id", "0"),
        (".edit_date", "[]"),
        (".chat.id", "true"),
        (".chat.id", "0"),
        (".chat.title", "5"),
        (".chat.title", "\"A\",\"title\":\"B\""),
        (".entities", "[5]"),
        (".caption_entities", "5"),
        (".caption", "5"),
        (".message_thread_id", "\"x\""),
        (".message_thread_id", "0"),
        (".reply_to_message", "{}"),
        (".reply_to_message", "\"x\""),
        (".is_topic_message", "5"),
        (".date", "1,\"date\":1"),
    ];
    let mut bodies = Vec::new();
    for body in silent().into_iter().skip(1) {
        bodies.extend(faults.map(|(path, raw)| body.clone().set(path, raw).bytes()));
        // All of them at once, the keys given twice aside.
        let all = faults.iter().filter(|(_, raw)| !raw.contains("\":"));
        bodies.push(all.fold(body, |body, (path, raw)| body.set(path, raw)).bytes());
    }
    for unread in ["\"x\"", "5", "[]", "{}"] {
        bodies.push(Body::message().without(".text").set(".from", unread).bytes());
        bodies.push(Body::message().set(".chat.type", "\"private\"").set(".from", unread).set(".text", unread).bytes());
        bodies.push(
            Body::chat_member(&json!({ "status": "left" }), &json!({ "status": "left" }))
                .set(".new_chat_member.user", unread)
                .bytes(),
        );
    }
    bodies.push(
        Body::message()
            .set(".chat.type", "\"private\"")
            .set(".new_chat_members", "[5]")
            .set(".left_chat_member", "5")
            .bytes(),
    );
    bodies.push(
        Body::came()
            .set(".chat.type", "\"private\"")
            .set(".old_chat_member", "5")
            .set(".new_chat_member", "[]")
            .bytes(),
    );
    bodies
}

/// Numbers beyond 64-bit floats where nobody looks: JSON has no largest number.
pub fn unread_numbers() -> Vec<Vec<u8>> {
    let numbers = ["1e999".to_owned(), "-1E+400".to_owned(), format!("1{}", "0".repeat(400))];
    let places =
        [".text", ".caption", ".chat.title", ".entities", ".reply_to_message", ".from.username", ".new_chat_members"];
    let private = Body::message().set(".chat.type", "\"private\"");
    numbers.iter().flat_map(|number| places.map(|path| private.clone().set(path, number).bytes())).collect()
}

/// The same beside what a fact needs.
pub fn unread_numbers_in_events() -> Vec<Vec<u8>> {
    let numbers = ["1e999".to_owned(), format!("1{}", "0".repeat(400))];
    let with = |number: &String| {
        [
            Body::message().set("message", number).bytes(),
            Body::message().set("update.chat_member", number).bytes(),
            Body::message().set(".caption_entities", number).bytes(),
            Body::edit().set(".new_chat_members", number).bytes(),
            Body::edit().set(".left_chat_member", number).bytes(),
            Body::join(r#"[{"id":43}]"#).set(".text", number).bytes(),
            Body::join(r#"[{"id":43}]"#).set(".from", number).bytes(),
            Body::came().set(".old_chat_member.user", number).bytes(),
            // These are skipped without being read.
            Body::message().set(".zzz", number).bytes(),
            Body::message().set(".photo", number).bytes(),
        ]
    };
    numbers.iter().flat_map(with).collect()
}

/// Wrong types beside numbers out of range.
pub fn types_and_ranges() -> Vec<Vec<u8>> {
    let types = [
        (".date", "\"x\""),
        (".chat.title", "5"),
        (".entities", "5"),
        (".reply_to_message", "{}"),
        (".caption", "[]"),
        (".from.username", "5"),
    ];
    let ranges = [
        ("update.update_id", "0"),
        (".message_id", "0"),
        (".chat.id", "0"),
        (".from.id", "-1"),
        (".message_thread_id", "0"),
        (".edit_date", "0"),
    ];
    let mut bodies: Vec<_> = types
        .iter()
        .flat_map(|(path, raw)| ranges.map(|(other, number)| Body::edit().set(path, raw).set(other, number).bytes()))
        .collect();
    bodies.push(Body::edit().without(".edit_date").set(".date", "0").bytes());
    bodies.push(Body::join(r#"[{"id":0},{"id":"x"}]"#).bytes());
    bodies.push(Body::join(r#"[{"id":"x"},{"id":0}]"#).bytes());
    bodies.push(Body::join(r#"[{"id":0}]"#).without(".date").bytes());
    bodies.push(Body::leave(r#"{"id":0}"#).set(".date", "1.0").bytes());
    bodies.push(Body::came().set(".new_chat_member.user.id", "0").set(".chat.id", "1.0").bytes());
    bodies.push(
        Body::message().set(".reply_to_message", r#"{"message_id":0}"#).set(".message_thread_id", "true").bytes(),
    );
    bodies
}

#[test]
fn size_comes_before_everything() {
    let mut body = Body::message().set("org_id", "5").bytes();
    body.push(0xff);
    body.resize(MAX_BODY_BYTES + 1, b'[');
    assert_all("too_large", &[body]);
}

#[test]
fn json_comes_before_the_envelope() {
    let mut trailing = Body::message().set("org_id", "5").bytes();
    trailing.push(b'x');
    let cut = br#"{"org_id":5,"update":[]"#.to_vec();
    let list = br#"[{"org_id":5},]"#.to_vec();
    let wrong_first = Body::message().set(".date", "\"x\"").set(".zzz", "NaN").bytes();
    let doubled = br#"{"org_id":null,"org_id":1,"update_id":}"#.to_vec();
    let number_first = br#"{"org_id":1e999,"update":{"update_id":01}}"#.to_vec();
    let silent = Body::message().set(".chat.type", "\"private\"").set(".zzz", "01").bytes();
    assert_all("malformed_json", &[trailing, cut, list, wrong_first, doubled, number_first, silent]);
}

#[test]
fn envelope_comes_before_whether_there_is_a_fact() {
    for body in silent() {
        for (path, raw) in [
            ("org_id", "null"),
            ("org_id", "\"x\""),
            ("org_id", "5"),
            ("update", "null"),
            ("update.update_id", "null"),
            ("update.update_id", "1.0"),
        ] {
            assert_all("invalid_envelope", &[body.clone().set(path, raw).bytes()]);
        }
        assert_all(
            "invalid_envelope",
            &[body.clone().without("org_id").bytes(), body.without("update.update_id").bytes()],
        );
    }
}

#[test]
fn envelope_comes_before_ranges() {
    let wrong = Body::message().set(".date", "0").set(".from.id", "0");
    assert_all("invalid_event", &[wrong.bytes()]);
    assert_all(
        "invalid_envelope",
        &[wrong.clone().set("org_id", "\"x\"").bytes(), wrong.set("update.update_id", "true").bytes()],
    );
}

#[test]
fn update_without_facts_is_ignored() {
    assert_all("ignored", &silent().iter().map(Body::bytes).collect::<Vec<_>>());
}

#[test]
fn update_without_facts_is_ignored_whatever_else_is_wrong_in_it() {
    assert_all("ignored", &silent_and_wrong());
}

#[test]
fn number_beyond_floats_in_an_update_without_facts_is_ignored() {
    assert_all("ignored", &unread_numbers());
}

#[test]
fn number_beyond_floats_that_no_fact_needs_refuses_nothing() {
    assert_all("facts: 1", &unread_numbers_in_events());
}

#[test]
fn types_come_before_ranges() {
    assert_all("invalid_envelope", &types_and_ranges());
}

#[test]
fn topic_flag_is_no_need_of_a_reply_to_another_message() {
    // Both beyond 64 bits, and not the same number.
    let body = Body::message()
        .set(".reply_to_message", &format!(r#"{{"message_id":1{}}}"#, "0".repeat(30)))
        .set(".message_thread_id", &format!("2{}", "0".repeat(30)))
        .set(".is_topic_message", "5");
    assert_all("invalid_event", &[body.bytes()]);
}
