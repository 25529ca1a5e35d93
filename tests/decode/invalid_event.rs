//! `invalid_event`: ids and dates outside their ranges.

use std::time::Duration;

use rollcall::decode::{Limits, Seconds};
use serde_json::json;

use crate::body::{Body, DATE, DAY, EARLIEST, MAX_ID, NOW, assert_all, limits, only_fact, shown, verdict_under};

fn far_out() -> Vec<String> {
    let long = [
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
    ];
    let mut ids: Vec<String> = long.map(str::to_owned).into();
    ids.extend(["", "-"].map(|sign| format!("{sign}1{}", "0".repeat(30))));
    ids.extend(["", "-"].map(|sign| format!("{sign}1{}", "0".repeat(400))));
    ids
}

/// Every place of an id that has to be positive: a body that is valid otherwise, where, and what to put
/// there with `#` as the id.
fn ids() -> Vec<(Body, &'static str, &'static str)> {
    let reply = Body::message().set(".reply_to_message", r#"{"message_id":5}"#);
    let topic = reply.clone().set(".is_topic_message", "true").set(".message_thread_id", "5");
    vec![
        (Body::message(), "update.update_id", "#"),
        (Body::message(), ".message_id", "#"),
        (Body::message(), ".from.id", "#"),
        (Body::message(), ".message_thread_id", "#"),
        (reply, ".message_thread_id", "#"),
        (topic.clone(), ".message_thread_id", "#"),
        (Body::message(), ".reply_to_message", r#"{"message_id":#}"#),
        (topic, ".reply_to_message", r#"{"message_id":#}"#),
        (Body::edit(), "update.update_id", "#"),
        (Body::edit(), ".message_id", "#"),
        (Body::edit(), ".from.id", "#"),
        (Body::edit(), ".message_thread_id", "#"),
        (Body::edit(), ".reply_to_message", r#"{"message_id":#}"#),
        (Body::bare(), "update_id", "#"),
        (Body::bare(), ".message_id", "#"),
        (Body::join(r#"[{"id":43}]"#), "update.update_id", "#"),
        (Body::join(r#"[{"id":43}]"#), ".message_id", "#"),
        (Body::join("[]"), ".new_chat_members", r#"[{"id":#}]"#),
        (Body::join("[]"), ".new_chat_members", r#"[{"id":43},{"id":#}]"#),
        (Body::join("[]"), ".new_chat_members", r#"[{"id":#},{"id":43}]"#),
        (Body::join("[]"), ".new_chat_members", r#"[{"id":777000},{"id":#},{"id":9,"is_bot":true}]"#),
        (Body::leave(r#"{"id":43}"#), "update.update_id", "#"),
        (Body::leave(r#"{"id":43}"#), ".message_id", "#"),
        (Body::leave("{}"), ".left_chat_member", r#"{"id":#}"#),
        (Body::came(), "update.update_id", "#"),
        (Body::came(), ".new_chat_member.user.id", "#"),
        (gone(), "update.update_id", "#"),
        (gone(), ".new_chat_member.user.id", "#"),
    ]
}

fn gone() -> Body {
    Body::chat_member(&json!({ "status": "member" }), &json!({ "status": "kicked" }))
}

fn bodies_with_ids(values: &[String]) -> Vec<Vec<u8>> {
    let with = |(body, path, template): (Body, &str, &str)| {
        values.iter().map(|id| body.clone().set(path, &template.replace('#', id)).bytes()).collect::<Vec<_>>()
    };
    ids().into_iter().flat_map(with).collect()
}

fn kinds() -> [Body; 6] {
    [
        Body::message(),
        Body::edit(),
        Body::join(r#"[{"id":43}]"#),
        Body::leave(r#"{"id":43}"#),
        Body::came(),
        Body::bare(),
    ]
}

fn with_each(path: &str, values: &[String], bodies: &[Body]) -> Vec<Vec<u8>> {
    bodies.iter().flat_map(|body| values.iter().map(|value| body.clone().set(path, value).bytes())).collect()
}

pub fn ids_out_of_range() -> Vec<Vec<u8>> {
    let near = ["0", "-0", "-1", "-9007199254740992"].map(str::to_owned);
    bodies_with_ids(&[&near[..], &far_out()].concat())
}

pub fn ids_in_range() -> Vec<Vec<u8>> {
    bodies_with_ids(&["1", "2", "9007199254740991", "9007199254740992"].map(str::to_owned))
}

pub fn chats_out_of_range() -> Vec<Vec<u8>> {
    let near = ["0", "-0", "-9007199254740993", "-9223372036854775808"].map(str::to_owned);
    with_each(".chat.id", &[&near[..], &far_out()].concat(), &kinds())
}

pub fn chats_in_range() -> Vec<Vec<u8>> {
    with_each(".chat.id", &["1", "-1", "9007199254740992", "-9007199254740992"].map(str::to_owned), &kinds())
}

pub fn dates_out_of_range() -> Vec<Vec<u8>> {
    let near = [EARLIEST - 1, 0, -1, NOW + DAY + 1, 9_224_318_016_000, i64::MAX, i64::MIN].map(|date| date.to_string());
    let dates = [&near[..], &far_out(), &["-0".to_owned()]].concat();
    let mut bodies = with_each(".date", &dates, &kinds());
    bodies.extend(with_each(".edit_date", &dates, &[Body::edit()]));
    bodies
}

pub fn dates_in_range() -> Vec<Vec<u8>> {
    let dates = [EARLIEST, EARLIEST + 1, DATE, NOW, NOW + DAY].map(|date| date.to_string());
    let mut bodies = with_each(".date", &dates, &kinds());
    bodies.extend(with_each(".edit_date", &dates, &[Body::edit()]));
    bodies
}

#[test]
fn ids_outside_one_to_two_to_the_fifty_third_are_invalid() {
    assert_all("invalid_event", &ids_out_of_range());
}

#[test]
fn ids_from_one_to_two_to_the_fifty_third_are_accepted_ends_included() {
    for body in ids_in_range() {
        let found = verdict_under(&body, &limits(), NOW);
        assert!(found == "facts: 1" || found == "facts: 2", "{found}: {}", shown(&body));
    }
}

#[test]
fn chat_ids_of_zero_or_beyond_two_to_the_fifty_third_are_invalid() {
    assert_all("invalid_event", &chats_out_of_range());
}

#[test]
fn chat_ids_up_to_two_to_the_fifty_third_are_accepted_either_way() {
    assert_all("facts: 1", &chats_in_range());
}

#[test]
fn dates_before_2013_or_beyond_the_skew_are_invalid() {
    assert_all("invalid_event", &dates_out_of_range());
}

#[test]
fn first_and_last_second_are_accepted() {
    assert_all("facts: 1", &dates_in_range());
}

#[test]
fn accepted_numbers_arrive_exactly() {
    let body = Body::message()
        .set("update.update_id", "9007199254740992")
        .set(".message_id", "9007199254740991")
        .set(".from.id", "9007199254740992")
        .set(".chat.id", "-9007199254740992");
    let fact = only_fact(&body.bytes());
    assert_eq!((fact.version.update_id, fact.source_id), (MAX_ID, MAX_ID - 1));
    assert_eq!((fact.user.id, fact.chat.id), (MAX_ID, -MAX_ID));
    assert_eq!(only_fact(&Body::came().set("update.update_id", "9007199254740992").bytes()).source_id, -MAX_ID);
}

#[test]
fn skew_is_a_setting() {
    let dated = |date: Seconds| Body::message().set(".date", &date.to_string()).bytes();
    let under = |skew, date| verdict_under(&dated(date), &Limits { max_clock_skew: skew, ..limits() }, NOW);
    for (skew, latest) in
        [(Duration::ZERO, NOW), (Duration::from_millis(1999), NOW + 1), (Duration::from_hours(1), NOW + 3_600)]
    {
        assert_eq!(under(skew, latest), "facts: 1", "{skew:?}");
        assert_eq!(under(skew, latest + 1), "invalid_event", "{skew:?}");
    }
}

#[test]
fn no_skew_and_no_clock_overflows() {
    let body = Body::message().set(".date", &i64::MAX.to_string()).bytes();
    let endless = Limits { max_clock_skew: Duration::MAX, ..limits() };
    assert_eq!(verdict_under(&body, &endless, NOW), "facts: 1");
    assert_eq!(verdict_under(&body, &limits(), i64::MAX), "facts: 1");
    assert_eq!(verdict_under(&Body::message().bytes(), &limits(), i64::MIN), "invalid_event");
    assert_eq!(verdict_under(&Body::message().bytes(), &endless, i64::MIN), "facts: 1");
}
