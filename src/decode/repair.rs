//! The one look at the raw bytes before they are parsed: encoding, depth, and escapes that no string
//! can hold.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr2_iter};

use super::{Reason, Refusal, field::may_be_integer};

const MAX_DEPTH: usize = 64;
const REPLACEMENT: &[u8; 6] = br"\ufffd";

/// The body as text that `serde_json` and PostgreSQL both accept: NUL escapes and lone surrogate
/// escapes become U+FFFD. Borrowed unless there were any. Does not judge the grammar, which is the
/// parser's; it only makes sure that no value is nested deeper than 64 levels.
pub(super) fn repair(body: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    // Counting is quick, and seldom is there more to do.
    if memchr2_iter(b'{', b'[', body).take(MAX_DEPTH + 1).count() > MAX_DEPTH {
        check_depth(body)?;
    }
    let mut broken = Vec::new();
    let mut at = 0;
    // All escapes stand in strings, or this is no JSON.
    while let Some(step) = body.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        at += step;
        let Escape { length, is_broken } = Escape::at(body, at);
        if is_broken {
            broken.push(at);
        }
        at += length;
    }
    if broken.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    let mut repaired = body.to_vec();
    for at in broken {
        repaired[at..at + REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
    }
    // ASCII was replaced by ASCII, so this cannot fail; the check is cheap and this path is rare.
    String::from_utf8(repaired).map(Cow::Owned).map_err(|_| malformed("not UTF-8".into()))
}

fn check_depth(body: &[u8]) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(malformed(format!("nested deeper than {MAX_DEPTH} levels at byte {}", at - 1)));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string_end(body, at),
            _ => {}
        }
    }
    Ok(())
}

/// The text with stand-ins for numbers that the parser cannot hold, or takes for floats though they are integers: floats
/// become another float, integers another one beyond 63 bits, and nothing that is looked at can tell. For texts that are JSON.
pub(super) fn tame_numbers(text: &str) -> String {
    let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let body = text.as_bytes();
    let mut tamed = String::with_capacity(text.len());
    let mut at = 0;
    while at < body.len() {
        let (end, is_number) = match body[at] {
            b'"' => (string_end(body, at + 1), false),
            b'-' | b'0'..=b'9' => (at + body[at..].iter().take_while(|byte| is_part(byte)).count(), true),
            _ => (at + text[at..].chars().next().map_or(1, char::len_utf8), false),
        };
        let token = &text[at..end];
        tamed += if is_number { tame(token) } else { token };
        at = end;
    }
    tamed
}

fn tame(number: &str) -> &str {
    if number.contains(['.', 'e', 'E']) {
        return if number.parse().is_ok_and(may_be_integer) { "0.5" } else { number };
    }
    match number.parse::<i64>() {
        Ok(0) => "0",
        Ok(_) => number,
        Err(_) => "18446744073709551615",
    }
}

/// The position after the string that is open at `at`.
fn string_end(body: &[u8], mut at: usize) -> usize {
    while let Some(step) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += step;
        if body[at] == b'"' {
            return at + 1;
        }
        at += Escape::at(body, at).length;
    }
    body.len()
}

/// What a backslash begins.
struct Escape {
    /// In bytes, perhaps beyond the end; a surrogate pair is one.
    length: usize,
    /// Whether no string can hold it.
    is_broken: bool,
}

impl Escape {
    fn at(body: &[u8], at: usize) -> Self {
        let (length, is_broken) = match code_unit(body, at) {
            Some(0xd800..=0xdbff) if matches!(code_unit(body, at + 6), Some(0xdc00..=0xdfff)) => (12, false),
            Some(unit) => (6, matches!(unit, 0 | 0xd800..=0xdfff)),
            None => (2, false),
        };
        Self { length, is_broken }
    }
}

/// The UTF-16 code unit of the `\uXXXX` escape at `at`, if one stands there.
fn code_unit(body: &[u8], at: usize) -> Option<u32> {
    let digits = body.get(at..at + 6)?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}

pub(super) fn malformed(detail: String) -> Refusal {
    Refusal::new(Reason::MalformedJson, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repaired(text: &str) -> String {
        repair(text.as_bytes()).unwrap().into_owned()
    }

    #[test]
    fn lone_surrogates_and_nul_become_the_replacement_character() {
        assert_eq!(repaired(r#""\u0000""#), r#""\ufffd""#);
        assert_eq!(repaired(r#""\ud83d""#), r#""\ufffd""#);
        assert_eq!(repaired(r#""\ude00x""#), r#""\ufffdx""#);
        assert_eq!(repaired(r#""\ud83d\ud83d\ude00\uDE00""#), r#""\ufffd\ud83d\ude00\ufffd""#);
    }

    #[test]
    fn pairs_and_escaped_backslashes_are_kept() {
        for kept in [r#""\ud83d\ude00""#, r#""\\u0000""#, r#""\"\\\\ud800""#, r#""\\""#] {
            assert_eq!(repaired(kept), kept);
        }
    }

    #[test]
    fn depth_counts_outside_strings_only() {
        assert!(repair(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
        assert!(repair(format!("{}{}", "[".repeat(65), "]".repeat(65)).as_bytes()).is_err());
        assert!(repair(format!("\"{}\\\"{}\"", "[".repeat(99), "{".repeat(99)).as_bytes()).is_ok());
    }

    #[test]
    fn only_numbers_that_the_parser_changes_are_tamed() {
        let tamed = tame_numbers(&format!(
            r#"{{"1e999\"é":[1e999,-1E+400,1e19,-0.0,1.5,-0,-1,true,"1e999",{},{},1{}]}}"#,
            i64::MIN,
            i64::MAX,
            "0".repeat(400)
        ));
        let expected = r#"{"1e999\"é":[0.5,0.5,0.5,0.5,1.5,0,-1,true,"1e999",-9223372036854775808,9223372036854775807,18446744073709551615]}"#;
        assert_eq!(tamed, expected);
    }

    proptest! {
        #[test]
        fn whatever_json_accepts_before_it_accepts_after(value in r#"["\\u{}\[\]d0-9a-f ,:]{0,40}"#) {
            let before = serde_json::from_str::<serde::de::IgnoredAny>(&value).is_ok();
            if let Ok(after) = repair(value.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<serde::de::IgnoredAny>(&after).is_ok(), before);
            }
        }

        #[test]
        fn every_accepted_string_can_be_read(value in r#""(\\u[d0][8-9c-f0][0-9a-f]{2}|[a-z])*""#) {
            prop_assert!(serde_json::from_str::<String>(&repaired(&value)).is_ok());
        }
    }
}
