//! What holds for any bytes.

use std::ops::RangeInclusive;

use fastrand::Rng;
use proptest::prelude::*;
use rollcall::decode::{Reason, What, decode, org_of};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::{
    body::{DAY, EARLIEST, MAX_BODY_BYTES, MAX_ID, NOW, ORG, event, limits, shown, user},
    mutation::{changed, damaged, rewritten, valid},
};

/// Decodes, and holds what comes out against what must be so for any body.
fn looked_at(body: &[u8]) -> Result<(), TestCaseError> {
    let found = decode(body, &limits(), NOW);
    prop_assert_eq!(&found, &decode(body, &limits(), NOW));
    let org = org_of(body, MAX_BODY_BYTES);
    match found {
        Ok(None) => {}
        Ok(Some(event)) => {
            prop_assert_eq!(event.org, org);
            let (ids, dates): (RangeInclusive<i64>, _) = (1..=MAX_ID, EARLIEST..=NOW + DAY);
            prop_assert!(!event.facts.is_empty());
            for fact in &event.facts {
                prop_assert_eq!(fact.chat.id, event.chat_id());
                prop_assert!(fact.chat.id != 0 && fact.chat.id.abs() <= MAX_ID);
                prop_assert!(
                    ids.contains(&fact.user.id)
                        && ids.contains(&fact.version.update_id)
                        && ids.contains(&fact.source_id.abs())
                );
                prop_assert!(dates.contains(&fact.date) && dates.contains(&fact.version.at));
                let profile = &fact.user.profile;
                for text in
                    [&fact.chat.title, &profile.username, &profile.first_name, &profile.last_name].into_iter().flatten()
                {
                    prop_assert!(!text.is_empty() && !text.contains('\0'));
                }
                if let What::Message(message) = &fact.what {
                    prop_assert!(message.reply_to.into_iter().chain(message.thread_id).all(|id| ids.contains(&id)));
                    prop_assert!(message.text.iter().all(|text| !text.contains('\0')));
                }
            }
        }
        Err(refusal) => {
            let malformed = matches!(refusal.reason, Reason::MalformedJson | Reason::TooLarge);
            prop_assert!(!malformed || org.is_none());
            prop_assert!(refusal.detail.len() < 300 && !refusal.detail.is_empty());
        }
    }
    Ok(())
}

/// Whether decode and the parser agree on what is JSON, for bodies that are not deep.
fn is_judged_as_json(body: &[u8]) -> Result<(), TestCaseError> {
    let is_json = std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let is_malformed = decode(body, &limits(), NOW).is_err_and(|refusal| refusal.reason == Reason::MalformedJson);
    prop_assert_eq!(is_json, !is_malformed, "{}", shown(body));
    Ok(())
}

fn any_name() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), any::<String>().prop_map(Value::from)]
}

/// Events with any text in them, of every kind.
fn any_event() -> impl Strategy<Value = Value> {
    let texts = (any_name(), any_name(), any_name(), any_name(), any::<String>());
    let numbers = (1..=MAX_ID, 1..=MAX_ID, EARLIEST..=NOW + DAY, prop_oneof![-MAX_ID..=-1, 1..=MAX_ID]);
    (0..valid().len(), texts, numbers).prop_map(
        |(kind, (username, first, last, title, text), (id, update_id, date, chat))| {
            let mut event = valid().swap_remove(kind);
            let update = if event.get("update").is_some() { &mut event["update"] } else { &mut event };
            update["update_id"] = json!(update_id);
            let key = ["message", "edited_message", "chat_member"]
                .into_iter()
                .find(|key| update.get(key).is_some())
                .expect("a kind");
            let main = &mut update[key];
            main["date"] = json!(date);
            main["chat"]["id"] = json!(chat);
            main["chat"]["title"] = title;
            if main.get("text").is_some() {
                main["text"] = json!(text);
            }
            let mut person = user(id);
            person["username"] = username;
            person["first_name"] = first;
            person["last_name"] = last;
            // A system account would make it no event.
            person["id"] = json!(if [777_000, 136_817_688, 1_087_968_824].contains(&id) { 1 } else { id });
            if main.get("new_chat_member").is_some() {
                main["new_chat_member"]["user"] = person;
            } else {
                main["from"] = person;
            }
            event
        },
    )
}

fn any_json_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("null"),
        Just("1"),
        Just("-"),
        Just("1e999"),
        Just("\"org_id\":"),
        Just("\"update\":{"),
        Just("\"update_id\":1"),
        Just("\"message\":{"),
        Just("\"new_chat_members\":["),
        Just("\\ud83d"),
        Just("\"entities\":[{"),
        Just("\"type\":\"url\""),
        Just("\"id\":"),
        Just(" "),
        Just("é"),
        Just("\\u0000"),
        Just("\\u"),
        Just("true"),
        Just(ORG),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_decoded_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        looked_at(&body)?;
    }

    #[test]
    fn bytes_like_json_are_decoded_without_a_panic(body in any_json_like_bytes()) {
        looked_at(&body)?;
        is_judged_as_json(&body)?;
    }

    #[test]
    fn damaged_events_are_decoded_without_a_panic(event in any_event(), seed in any::<u64>()) {
        let mut rng = Rng::with_seed(seed);
        let body = damaged(event.to_string().into_bytes(), &mut rng);
        looked_at(&body)?;
        is_judged_as_json(&body)?;
    }

    #[test]
    fn events_with_changed_values_are_decoded_without_a_panic(event in any_event(), seed in any::<u64>()) {
        let body = changed(&event, &mut Rng::with_seed(seed));
        looked_at(&body)?;
        is_judged_as_json(&body)?;
    }

    #[test]
    fn blanks_order_escapes_and_unknown_fields_change_nothing(json in any_event(), seed in any::<u64>()) {
        let body = rewritten(&json, &mut Rng::with_seed(seed));
        let expected = event(json.to_string().as_bytes());
        let found = decode(&body, &limits(), NOW);
        prop_assert_eq!(found, Ok(Some(expected)), "{}", shown(&body));
    }
}
