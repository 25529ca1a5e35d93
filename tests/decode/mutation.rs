//! Bodies written otherwise with the same meaning, and bodies changed at random.

use fastrand::Rng;
use serde_json::Value;

use crate::body::Body;

/// Valid bodies of every kind, as JSON.
pub fn valid() -> Vec<Value> {
    let full = Body::message()
        .set(".entities", r#"[{"length":3,"offset":0,"type":"url"},{"type":"mention"}]"#)
        .set(".reply_to_message", r#"{"message_id":5}"#)
        .set(".message_thread_id", "5")
        .set(".is_topic_message", "true");
    let photo = Body::message()
        .without(".text")
        .set(".photo", "[{}]")
        .set(".caption", "\"seen\"")
        .set(".caption_entities", r#"[{"type":"text_link"}]"#);
    let members = r#"[{"first_name":"Ada","id":43},{"id":9,"is_bot":true},{"id":44,"username":"x"}]"#;
    let restricted = serde_json::json!({ "status": "restricted", "is_member": true });
    let gone = Body::chat_member(&restricted, &serde_json::json!({ "status": "kicked" }));
    let bodies = [
        Body::message(),
        full,
        photo,
        Body::edit(),
        Body::bare(),
        Body::join(members),
        Body::leave(r#"{"id":43}"#),
        Body::came(),
        gone,
    ];
    bodies.iter().map(|body| serde_json::from_slice(&body.bytes()).expect("JSON")).collect()
}

/// The same event in other bytes: keys in any order, blanks, escapes, and unknown fields everywhere.
pub fn rewritten(json: &Value, rng: &mut Rng) -> Vec<u8> {
    let mut out = String::new();
    write(json, rng, &mut out);
    blanks(rng, &mut out);
    out.into_bytes()
}

fn write(json: &Value, rng: &mut Rng, out: &mut String) {
    blanks(rng, out);
    match json {
        Value::String(text) => write_string(text, rng, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(item, rng, out);
                blanks(rng, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut members: Vec<String> =
                fields.iter().map(|(key, value)| member(key, rng, |rng, out| write(value, rng, out))).collect();
            for _ in 0..rng.usize(..3) {
                let unknown = unknown(rng);
                let key = ["zzz", "Date", "_", "", "\u{0}", "from_", "🔑"][rng.usize(..7)];
                members.push(member(key, rng, |_, out| out.push_str(&unknown)));
            }
            rng.shuffle(&mut members);
            out.push('{');
            out.push_str(&members.join(","));
            blanks(rng, out);
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn member(key: &str, rng: &mut Rng, value: impl FnOnce(&mut Rng, &mut String)) -> String {
    let mut out = String::new();
    blanks(rng, &mut out);
    write_string(key, rng, &mut out);
    blanks(rng, &mut out);
    out.push(':');
    value(rng, &mut out);
    out
}

fn write_string(text: &str, rng: &mut Rng, out: &mut String) {
    let share = [0.0, 0.0, 0.1, 1.0][rng.usize(..4)];
    out.push('"');
    for char in text.chars() {
        if rng.f64() < share || char < ' ' || char == '"' || char == '\\' {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let digits = format!("{unit:04x}");
                out.push_str("\\u");
                out.push_str(&if rng.bool() { digits } else { digits.to_uppercase() });
            }
        } else {
            out.push(char);
        }
    }
    out.push('"');
}

fn blanks(rng: &mut Rng, out: &mut String) {
    if rng.u8(..4) == 0 {
        out.extend((0..rng.usize(..4)).map(|_| [' ', '\t', '\n', '\r'][rng.usize(..4)]));
    }
}

fn unknown(rng: &mut Rng) -> String {
    let levels = rng.usize(1..50);
    match rng.u8(..12) {
        0 => "null".into(),
        1 => "1e999".into(),
        2 => "9".repeat(500),
        3 => format!("{}{}", "[".repeat(levels), "]".repeat(levels)),
        4 => format!("{}0{}", "{\"a\":".repeat(levels), "}".repeat(levels)),
        5 => r#""\ud800\u0000[[{\"""#.into(),
        6 => r#"{"date":"x","date":1,"org_id":5,"update":[],"message":{}}"#.into(),
        7 => r#"[{"id":1.0},-0.0E-5,true,"é👍"]"#.into(),
        8 => "\"\"".into(),
        9 => "false".into(),
        10 => "{}".into(),
        _ => rng.i64(..).to_string(),
    }
}

/// Raw values that are put in the place of others.
const VALUES: [&str; 46] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "5",
    "1.0",
    "1e3",
    "1e999",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740992",
    "-9007199254740993",
    "9223372036854775808",
    "1000000000000000000000000000000",
    "1356998399",
    "1356998400",
    "1762392600",
    "1762392601",
    "777000",
    "\"\"",
    "\"x\"",
    "\"\\ud800\\u0000\"",
    "\"👍\"",
    "\"private\"",
    "\"group\"",
    "\"member\"",
    "\"restricted\"",
    "\"left\"",
    "\"url\"",
    "[]",
    "{}",
    "[5]",
    "[null]",
    "[{}]",
    "[{\"id\":43}]",
    "[{\"type\":\"mention\"}]",
    "{\"id\":43}",
    "{\"message_id\":5}",
    "NaN",
    "01",
    "\"\\x\"",
    "\"\t\"",
    "",
];

/// The body with one value, or sometimes two, replaced by something else.
pub fn changed(json: &Value, rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    let mut countdown = rng.usize(..nodes(json));
    let mut second = if rng.bool() { rng.usize(..nodes(json)) } else { usize::MAX };
    copy(
        json,
        &mut |out: &mut Vec<u8>| {
            let hit = countdown == 0 || second == 0;
            countdown = countdown.wrapping_sub(1);
            second = second.wrapping_sub(1);
            if hit {
                out.extend_from_slice(VALUES[rng.usize(..VALUES.len())].as_bytes());
            }
            hit
        },
        &mut out,
    );
    out
}

fn nodes(json: &Value) -> usize {
    1 + match json {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

fn copy(json: &Value, replace: &mut impl FnMut(&mut Vec<u8>) -> bool, out: &mut Vec<u8>) {
    if replace(out) {
        return;
    }
    let between = |out: &mut Vec<u8>, index| {
        if index > 0 {
            out.push(b',');
        }
    };
    match json {
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                between(out, index);
                copy(item, replace, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (index, (key, value)) in fields.iter().enumerate() {
                between(out, index);
                out.extend(format!("{}:", Value::from(key.as_str())).bytes());
                copy(value, replace, out);
            }
            out.push(b'}');
        }
        scalar => out.extend(scalar.to_string().bytes()),
    }
}

/// The body with a few bytes changed, removed, repeated or put in.
pub fn damaged(mut body: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\u",
        b"\\ud800",
        b"\\u0000",
        b"\0",
        b"\xff",
        b"null",
        b"0",
        b"\xef\xbb\xbf",
    ];
    for _ in 0..=rng.usize(..3) {
        let at = rng.usize(..=body.len());
        let end = body.len().min(at + rng.usize(1..9));
        match rng.u8(..5) {
            0 if at < body.len() => body[at] = rng.u8(..),
            1 => drop(body.drain(at..end)),
            2 => {
                let again = body[at..end].to_vec();
                body.splice(at..at, again);
            }
            3 => body.truncate(at),
            _ => drop(body.splice(at..at, PIECES[rng.usize(..PIECES.len())].iter().copied())),
        }
    }
    body
}
