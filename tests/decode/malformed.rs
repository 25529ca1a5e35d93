//! `too_large` and `malformed_json`: what is refused before any field is looked at.

use rollcall::decode::{Limits, Reason, decode};

use crate::body::{Body, MAX_BODY_BYTES, NOW, ORG, assert_all, limits, verdict, verdict_under};

fn padded(len: usize) -> Vec<u8> {
    let mut body = Body::message().bytes();
    body.resize(len, b' ');
    body
}

fn around(before: &[u8], after: &[u8]) -> Vec<u8> {
    [before, &Body::message().bytes(), after].concat()
}

/// The body with these bytes in place of its text, quotes included.
fn spliced(bytes: &[u8]) -> Vec<u8> {
    replaced(b"\"hello\"", bytes)
}

fn replaced(old: &[u8], new: &[u8]) -> Vec<u8> {
    let body = Body::message().bytes();
    let at = body.windows(old.len()).position(|window| window == old).expect("the bytes to replace");
    [&body[..at], new, &body[at + old.len()..]].concat()
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}{}", open.repeat(levels), close.repeat(levels)).replace(":}", ":0}")
}

pub fn too_large() -> Vec<Vec<u8>> {
    vec![
        padded(MAX_BODY_BYTES + 1),
        vec![b'['; MAX_BODY_BYTES + 1],
        vec![0xff; MAX_BODY_BYTES + 1],
        vec![b' '; 2 * MAX_BODY_BYTES],
    ]
}

pub fn not_utf8() -> Vec<Vec<u8>> {
    let sequences: [&[u8]; 12] = [
        b"\xff\xfe\xc3\x28",
        b"\xff\xfe",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
    ];
    let places = |bytes: &[u8]| {
        [
            spliced(&[b"\"a", bytes, b"b\""].concat()),
            spliced(&[b"\"hello\",\"zzz\":\"", bytes, b"\""].concat()),
            spliced(&[b"\"hello\",\"", bytes, b"\":1"].concat()),
            around(b"", bytes),
            around(bytes, b""),
            bytes.to_vec(),
        ]
    };
    let utf16: Vec<u8> = Body::message().bytes().iter().flat_map(|&byte| [byte, 0]).collect();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec();
    sequences.into_iter().flat_map(places).chain([utf16, gzip]).collect()
}

/// Whole bodies that are no JSON.
const NO_BODIES: &[&str] = &[
    "",
    " ",
    "  \n",
    "\t\r\n ",
    "\n\n\n",
    "not json at all",
    "{",
    "}",
    "[",
    "]",
    "{]",
    "[}",
    "\"",
    "\"org_id",
    "{\"org_id\"",
    "{\"org_id\":",
    "{\"org_id\":1,\"upd",
    "{,}",
    "{\"a\"}",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1,,\"b\":2}",
    "{1:2}",
    "{a:1}",
    "{'a':1}",
    "{null:1}",
    "[1,]",
    "[,1]",
    "[1 2]",
    "nul",
    "nulll",
    "tru",
    "True",
    "None",
    "undefined",
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "--1",
    "+1",
    "01",
    "-01",
    "1.",
    ".5",
    "1.e5",
    "1e",
    "1e+",
    "1E-",
    "0x10",
    "1_000",
    "1,2",
    "/* */ {}",
    "{} // x",
    "\u{feff}",
    "\u{feff}{}",
    "{}\u{feff}",
    "\u{a0}{}",
    "\u{2028}{}",
    "\u{b}{}",
    "\u{c}{}",
    "{}\0",
    "\0{}",
    "<a/>",
    "org_id=1",
];

/// What is no value, put where a body has one.
const NO_VALUES: &[&str] = &[
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "01",
    "-01",
    "1.",
    ".5",
    "+1",
    "1e",
    "1e+",
    "-",
    "0x1",
    "1_0",
    "'a'",
    "tru",
    "True",
    "nul",
    "undefined",
    "[1,]",
    "[,]",
    "{,}",
    "{\"a\":1,}",
    "{\"a\"}",
    "{a:1}",
    "[1 2]",
    "[",
    "{",
    "]",
    "}",
    "",
    "1 2",
    "\"a\"\"b\"",
    "\"a\" \"b\"",
    ":1",
    "/**/1",
    "1//",
    // Strings: escapes that JSON does not know, and ends that are missing.
    r#""\x41""#,
    r#""\'""#,
    r#""\0""#,
    r#""\u""#,
    r#""\u1""#,
    r#""\u12""#,
    r#""\u123""#,
    r#""\u123g""#,
    r#""\u+123""#,
    r#""\u 123""#,
    r#""\U0041""#,
    r#""\ud83d\u12""#,
    r#""\ud83d\x""#,
    r#""\ud83d\u""#,
    r#""\u00e""#,
    r#""\a""#,
    r#""\"#,
    r#""a\""#,
    r#""a\\\""#,
    r#""a"#,
];

pub fn not_json() -> Vec<Vec<u8>> {
    let controls = (0..0x20_u8).flat_map(|control| {
        [
            spliced(&[b'"', b'a', control, b'b', b'"']),
            spliced(&[b"\"hello\",\"zzz\":\"", &[control][..], b"\""].concat()),
            spliced(&[b"\"hello\",\"z", &[control][..], b"z\":1"].concat()),
        ]
    });
    let paths = [".text", ".zzz", ".date", ".from.is_bot", ".photo", ".entities", "zzz"];
    let values = paths.iter().flat_map(|path| NO_VALUES.iter().map(|value| Body::message().set(path, value).bytes()));
    let whole = Body::message().bytes();
    let trailing = [
        around(b"", &whole),
        around(b"", b" x"),
        around(b"", b","),
        around(b"", b"}"),
        around(b"", b"]"),
        around(b"", b"\0"),
        around(b"", b"null"),
        around(b"", b"\x1a"),
        around(b"\xef\xbb\xbf", b""),
        around(b"", b"\xef\xbb\xbf"),
        around(b",", b""),
        around(b"[", b""),
        around(b"\0", b""),
        replaced(b"\"org_id\"", b"org_id"),
        replaced(b"\"org_id\":", b"\"org_id\" "),
        replaced(b",\"update\"", b"\"update\""),
        replaced(b",\"update\"", b",,\"update\""),
        replaced(b"\"hello\"", b"\"hel\0lo\""),
    ];
    NO_BODIES.iter().map(|body| body.as_bytes().to_vec()).chain(values).chain(controls).chain(trailing).collect()
}

pub fn truncated() -> Vec<Vec<u8>> {
    let bodies = [Body::message(), Body::edit(), Body::came(), Body::join(r#"[{"id":1}]"#), Body::bare()];
    bodies
        .iter()
        .flat_map(|body| {
            let bytes = body.bytes();
            (0..bytes.len()).map(move |len| bytes[..len].to_vec())
        })
        .collect()
}

/// Bodies one or many levels too deep; the message of an envelope stands on the third level.
pub fn too_deep() -> Vec<Vec<u8>> {
    let in_message = |path: &str, levels| {
        [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")].map(|(open, close)| {
            let levels = if open.len() > 5 { levels / 2 + 1 } else { levels };
            Body::message().set(path, &nested(open, close, levels)).bytes()
        })
    };
    let mut bodies: Vec<_> =
        [62, 63, 125, 5_000, 100_000].into_iter().flat_map(|levels| in_message(".zzz", levels)).collect();
    bodies.extend(
        [".photo", ".text", ".entities", ".reply_to_message", ".date", ".chat", ".from.is_bot"]
            .into_iter()
            .flat_map(|path| in_message(path, 62)),
    );
    bodies.extend(in_message("zzz", 64));
    bodies.extend(in_message("org_id", 64));
    bodies.push(nested("[", "]", 65).into_bytes());
    bodies.push("[".repeat(100_000).into_bytes());
    bodies.push("{\"a\":".repeat(65).into_bytes());
    // No fact, and still refused.
    bodies.push(Body::message().set(".chat.type", "\"private\"").set(".zzz", &nested("[", "]", 62)).bytes());
    bodies
}

/// Bodies as deep as allowed.
pub fn deep_enough() -> Vec<Vec<u8>> {
    vec![
        Body::message().set(".zzz", &nested("[", "]", 61)).bytes(),
        Body::message().set(".zzz", &nested("{\"a\":", "}", 61)).bytes(),
        Body::message().set(".zzz", &format!("[{},{}]", nested("[", "]", 60), nested("[", "]", 60))).bytes(),
        Body::message().set("zzz", &nested("[", "]", 63)).bytes(),
        Body::message().set(".video", &nested("[", "]", 61)).bytes(),
        Body::message()
            .set(".reply_to_message", &format!("{{\"message_id\":3,\"reply_to_message\":{}}}", nested("[", "]", 60)))
            .bytes(),
        // Brackets in strings are no levels.
        Body::message().set(".text", &format!("\"{}\"", "[{".repeat(500))).bytes(),
        Body::message().set(".text", &format!(r#""\"{}\\""#, "[".repeat(500))).bytes(),
        Body::message().set(".text", &format!(r#""\\\"{}""#, "{".repeat(500))).bytes(),
    ]
}

#[test]
fn body_of_exactly_the_limit_is_accepted() {
    assert_eq!(verdict(&padded(MAX_BODY_BYTES)), "facts: 1");
    let body = Body::message().bytes();
    let limits = Limits { max_body_bytes: body.len(), ..limits() };
    assert_eq!(verdict_under(&body, &limits, NOW), "facts: 1");
}

#[test]
fn body_one_byte_over_the_limit_is_too_large() {
    assert_all("too_large", &too_large());
    let body = Body::message().bytes();
    let limits = Limits { max_body_bytes: body.len() - 1, ..limits() };
    assert_eq!(verdict_under(&body, &limits, NOW), "too_large");
}

#[test]
fn empty_body_is_malformed_under_any_limit() {
    assert_eq!(verdict_under(b"", &Limits { max_body_bytes: 0, ..limits() }, NOW), "malformed_json");
    assert_eq!(verdict_under(b" ", &Limits { max_body_bytes: 0, ..limits() }, NOW), "too_large");
}

#[test]
fn bytes_that_are_not_utf8_are_malformed_anywhere() {
    assert_all("malformed_json", &not_utf8());
}

#[test]
fn text_that_is_not_json_is_malformed() {
    assert_all("malformed_json", &not_json());
}

#[test]
fn every_proper_prefix_of_a_valid_body_is_malformed() {
    assert_all("malformed_json", &truncated());
}

#[test]
fn sixty_five_levels_are_malformed_wherever_they_are() {
    assert_all("malformed_json", &too_deep());
}

#[test]
fn sixty_four_levels_are_accepted() {
    assert_all("facts: 1", &deep_enough());
}

#[test]
fn whitespace_of_json_is_accepted_around_a_body() {
    assert_all("facts: 1", &[around(b" \t\r\n", b"\r\n\t "), around(b"", b"\n")]);
}

#[test]
fn a_number_before_the_error_does_not_hide_it() {
    for number in ["-0", "99999999999999999999", "1e999"] {
        let body = format!(r#"{{"org_id":"{ORG}","update":{{"update_id":{number},"message":}}}}"#);
        let refusal = decode(body.as_bytes(), &limits(), NOW).unwrap_err();
        assert_eq!(refusal.reason, Reason::MalformedJson);
        assert!(refusal.detail.starts_with("expected value"), "{number}: {}", refusal.detail);
    }
}
