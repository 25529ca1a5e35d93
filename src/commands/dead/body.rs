//! Bodies and other words of strangers, shown so that they can do nothing to a terminal.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

/// Bytes that are shown unless all are asked for.
pub(super) const SHOWN: usize = 16 << 10;

/// Text with everything that is not plainly visible spelled out: control, bidirectional, zero-width and other format
/// characters. Line breaks count among them.
pub(in crate::commands) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        push(&mut shown, character);
    }
    shown
}

/// JSON with what is not plainly visible in its strings as escapes, which mean the same.
pub(super) fn escaped(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_control() || is_format(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

fn push(shown: &mut String, character: char) {
    if character.is_control() || is_format(character) {
        let _ = write!(shown, "{}", character.escape_unicode());
    } else {
        shown.push(character);
    }
}

/// Unicode's format characters and separators, which steer what stands beside them.
const fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// A body as text: indented where it is JSON, numbers and strings as they are, else as a hex dump. `None` for `limit` is
/// no limit, in bytes.
pub(super) fn show(body: &[u8], limit: Option<usize>) -> String {
    let limit = limit.unwrap_or(usize::MAX);
    let (mut shown, is_cut) = match std::str::from_utf8(body) {
        Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
            let end = text.floor_char_boundary(limit.min(text.len()));
            (indent(&text[..end]), end < text.len())
        }
        _ => (dump(&body[..limit.min(body.len())]), limit < body.len()),
    };
    if is_cut {
        let _ = write!(shown, "\n… of {} bytes; --full shows all", body.len());
    }
    shown
}

/// Sound JSON, perhaps cut off, with line breaks and indents. Nothing is parsed, so nothing is rounded or dropped.
fn indent(text: &str) -> String {
    let mut shown = String::with_capacity(text.len() * 2);
    let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if is_in_string {
            push(&mut shown, character);
            is_in_string = character != '"' || is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            continue;
        }
        match character {
            '{' | '[' => {
                shown.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    shown.push(end);
                } else {
                    depth += 1;
                    break_line(&mut shown, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut shown, depth);
                shown.push(character);
            }
            ',' => {
                shown.push(',');
                break_line(&mut shown, depth);
            }
            ':' => shown.push_str(": "),
            '"' => {
                is_in_string = true;
                shown.push('"');
            }
            _ if character.is_ascii_whitespace() => {}
            _ => push(&mut shown, character),
        }
    }
    shown
}

fn break_line(shown: &mut String, depth: usize) {
    shown.push('\n');
    shown.extend(std::iter::repeat_n("  ", depth));
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// As `hexdump -C` does it.
fn dump(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(empty)".into();
    }
    let mut shown = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let _ = write!(shown, "{}{:08x} ", if line > 0 { "\n" } else { "" }, line * 16);
        for column in 0..16 {
            let gap = if column == 8 { "  " } else { " " };
            let _ = match chunk.get(column) {
                Some(byte) => write!(shown, "{gap}{byte:02x}"),
                None => write!(shown, "{gap}  "),
            };
        }
        let plain = chunk.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' });
        let _ = write!(shown, "  |{}|", plain.collect::<String>());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_as_it_is() {
        let body = br#" {"a" :[1e400,12345678901234567890.10],"b":{},"c":[ ],"a":"x:\",{\\","d":null} "#;
        let expected = "{\n  \"a\": [\n    1e400,\n    12345678901234567890.10\n  ],\n  \"b\": {},\n  \"c\": [],\n  \"a\": \"x:\\\",{\\\\\",\n  \"d\": null\n}";
        assert_eq!(show(body, None), expected);
    }

    #[test]
    fn whatever_is_not_json_is_dumped() {
        assert_eq!(show(b"", None), "(empty)");
        assert_eq!(
            show(b"\x00\x1b[31m<b>\xffabcdefghij", None),
            "00000000  00 1b 5b 33 31 6d 3c 62  3e ff 61 62 63 64 65 66  |..[31m<b>.abcdef|\n00000010  67 68 69 6a                                       |ghij|"
        );
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let shown = show("{\"a\":\"\u{202e}\u{200b}\u{9b}31m\u{feff}é<b>\"}".as_bytes(), None);
        assert_eq!(shown, "{\n  \"a\": \"\\u{202e}\\u{200b}\\u{9b}31m\\u{feff}é<b>\"\n}");
        assert_eq!(visible("a\nb\u{1b}"), "a\\u{a}b\\u{1b}");
        let text = "\u{202e}\u{e0041}\u{7f}é\n";
        let json = escaped(&serde_json::to_string(text).unwrap());
        assert_eq!(json, "\"\\u202e\\udb40\\udc41\\u007fé\\n\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn long_bodies_are_cut_and_say_so() {
        let body = format!("{{\"a\":\"{}\"}}", "é".repeat(1000));
        let shown = show(body.as_bytes(), Some(100));
        assert!(shown.ends_with("… of 2008 bytes; --full shows all") && shown.len() < 200, "{shown}");
        assert!(show(&[0; 40], Some(16)).ends_with("|\n… of 40 bytes; --full shows all"));
    }
}
