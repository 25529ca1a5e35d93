//! Headers: the two that a dead letter carries, and the display of all others, which nothing trusts.

use lapin::{
    protocol::basic::AMQPProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

use crate::{
    clock::Milliseconds,
    decode::{Culprit, Kind, Reason, Refusal},
};

const REASON: &str = "x-rollcall-reason";
const DETAIL: &str = "x-rollcall-detail";
const KIND: &str = "x-rollcall-kind";
const PATH: &str = "x-rollcall-path";
const SQLSTATE: &str = "x-rollcall-sqlstate";
const CONSTRAINT: &str = "x-rollcall-constraint";
/// The name that the broker's own interceptor for timestamps gives it.
const PUBLISHED_AT: &str = "timestamp_in_ms";

/// All headers are one frame, of 64 KiB at first, and the broker adds some of its own on redelivery.
const MAX_DETAIL_BYTES: usize = 2048;
/// Of a path or a constraint; PostgreSQL's names are shorter.
const MAX_NAME_BYTES: usize = 100;

fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// The headers of what rollcall publishes, with the reason if it is a dead letter.
#[must_use]
pub fn own_headers(published_at: Milliseconds, refusal: Option<&Refusal>) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(PUBLISHED_AT.into(), AMQPValue::LongLongInt(published_at));
    let Some(refusal) = refusal else { return headers };
    let mut tell = |name: &str, text: &str| {
        headers.insert(name.into(), AMQPValue::LongString(text.into()));
    };
    tell(REASON, refusal.reason.code());
    tell(DETAIL, cut(&refusal.detail, MAX_DETAIL_BYTES));
    if refusal.kind != Kind::None {
        tell(KIND, refusal.kind.name());
    }
    match &refusal.culprit {
        Culprit::Whole => {}
        Culprit::Path(path) => tell(PATH, path),
        Culprit::Rejection { sqlstate, constraint } => {
            tell(SQLSTATE, sqlstate);
            if let Some(constraint) = constraint {
                tell(CONSTRAINT, constraint);
            }
        }
    }
    headers
}

/// The refusal that a dead letter's headers tell; without a known reason it is a foreign one.
#[must_use]
pub fn refusal(headers: &FieldTable) -> Refusal {
    let text = |name: &str| headers.inner().get(name).map(scalar).and_then(|value| value.as_str().map(str::to_owned));
    let detail = text(DETAIL).unwrap_or_default();
    match text(REASON).and_then(|code| code.parse().ok()) {
        Some(reason) => {
            let kind = text(KIND).and_then(|name| name.parse().ok()).unwrap_or(Kind::None);
            let name = |header| text(header).map(|name| cut(&name, MAX_NAME_BYTES).to_owned());
            let culprit = match (name(PATH), name(SQLSTATE)) {
                (Some(path), _) => Culprit::Path(path),
                (None, Some(sqlstate)) => Culprit::Rejection { sqlstate, constraint: name(CONSTRAINT) },
                (None, None) => Culprit::Whole,
            };
            Refusal { kind, culprit, ..Refusal::new(reason, detail) }
        }
        None => Refusal::new(
            Reason::Foreign,
            if detail.is_empty() { "without a reason that rollcall gives".into() } else { detail },
        ),
    }
}

/// How often the broker redelivered this before, as far as it counts.
#[must_use]
pub fn delivery_count(headers: Option<&FieldTable>) -> u64 {
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    count.and_then(|count| scalar(count).as_u64()).unwrap_or(0)
}

/// When a message was published, as its header says, or else its property, which has whole seconds.
#[must_use]
pub fn published_at(properties: &AMQPProperties) -> Option<Milliseconds> {
    let header = properties.headers().as_ref().and_then(|headers| headers.inner().get(PUBLISHED_AT));
    let told = header.and_then(|value| scalar(value).as_i64());
    told.or_else(|| properties.timestamp().and_then(|seconds| i64::try_from(seconds.checked_mul(1000)?).ok()))
}

/// Headers as JSON that `jsonb` can hold.
#[must_use]
pub fn to_json(headers: &FieldTable) -> Value {
    object(headers, 0)
}

/// Deeper ones are only named; PostgreSQL and people stop earlier than AMQP.
const MAX_DEPTH: usize = 32;

fn object(table: &FieldTable, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return json!("…");
    }
    let members =
        table.inner().iter().map(|(key, value)| (sound_bytes(key.as_str().as_bytes()), value_at(value, depth + 1)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn scalar(value: &AMQPValue) -> Value {
    value_at(value, MAX_DEPTH)
}

fn value_at(value: &AMQPValue, depth: usize) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => json!(format!("{value:?}")),
        AMQPValue::ShortString(value) => json!(sound_bytes(value.as_str().as_bytes())),
        AMQPValue::LongString(value) => json!(sound_bytes(value.as_bytes())),
        AMQPValue::ByteArray(value) => json!(sound_bytes(value.as_slice())),
        AMQPValue::FieldArray(values) if depth < MAX_DEPTH => {
            values.as_slice().iter().map(|value| value_at(value, depth + 1)).collect()
        }
        AMQPValue::FieldTable(table) => object(table, depth),
        AMQPValue::FieldArray(_) => json!("…"),
        AMQPValue::Void => Value::Null,
    }
}

/// As text that PostgreSQL can hold, which is any without NUL.
#[must_use]
pub fn sound(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

fn sound_bytes(bytes: &[u8]) -> String {
    sound(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_headers() {
        for reason in Reason::ALL {
            let told = Refusal::new(reason, "message_id is missing");
            assert_eq!(refusal(&own_headers(1, Some(&told))), told);
        }
        let constraint = Some("participants_pkey".to_owned());
        for culprit in [Culprit::Path("chat.id".into()), Culprit::Rejection { sqlstate: "23505".into(), constraint }] {
            let told = Refusal { kind: Kind::Edit, culprit, ..Refusal::new(Reason::InvalidEvent, "x") };
            assert_eq!(refusal(&own_headers(1, Some(&told))), told);
        }
    }

    #[test]
    fn long_details_are_cut_at_a_character() {
        let told = refusal(&own_headers(1, Some(&Refusal::new(Reason::InvalidEvent, "é".repeat(3000)))));
        assert!(told.detail.len() <= MAX_DETAIL_BYTES && told.detail.chars().all(|c| c == 'é'));
    }

    #[test]
    fn other_headers_make_it_foreign() {
        let mut headers = FieldTable::default();
        headers.insert(REASON.into(), AMQPValue::LongString("nonsense".into()));
        assert_eq!(refusal(&headers).reason, Reason::Foreign);
        headers.insert(REASON.into(), AMQPValue::FieldTable(FieldTable::default()));
        assert_eq!(refusal(&headers).reason, Reason::Foreign);
    }

    #[test]
    fn hostile_headers_become_plain_json() {
        let mut nested = FieldTable::default();
        for _ in 0..500 {
            let mut outer = FieldTable::default();
            outer.insert("x".into(), AMQPValue::FieldTable(nested));
            nested = outer;
        }
        nested.insert("nul".into(), AMQPValue::LongString(b"a\0\xff".to_vec().into()));
        let text = to_json(&nested).to_string();
        assert!(text.len() < 1000 && !text.contains("\\u0000") && text.contains("a\u{fffd}\u{fffd}"), "{text}");
    }
}
