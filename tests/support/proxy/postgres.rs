//! Messages of `PostgreSQL`'s protocol 3.0: a type and a length, which counts itself.

use std::collections::HashMap;

use super::{
    Point,
    reader::{Reader, Reading},
};

/// The first message, which has no type, of a client that wants a session, and of one that wants to cancel.
const STARTUPS: [u32; 2] = [3 << 16, 80_877_102];

/// What a client says.
#[derive(Default)]
pub struct Requests {
    has_started: bool,
    /// Where prepared statements stand, by name.
    statements: HashMap<Vec<u8>, Option<Point>>,
}

impl Reader for Requests {
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        if self.has_started { typed_length(bytes) } else { number(bytes) }
    }

    fn read(&mut self, message: &[u8], _: bool) -> Reading {
        if !self.has_started {
            let code = number(&message[4..]).and_then(|code| u32::try_from(code).ok());
            assert!(code.is_some_and(|code| STARTUPS.contains(&code)), "cannot be read, encrypted? {code:?}");
            self.has_started = true;
            return Reading { is_complete: true, ..Reading::default() };
        }
        let (kind, rest) = (message[0], &message[5..]);
        match kind {
            // Query
            b'Q' => Reading { point: point(rest), is_complete: true, ..Reading::default() },
            // Parse
            b'P' => {
                let (name, rest) = text(rest);
                self.statements.insert(name.to_vec(), point(text(rest).0));
                Reading::default()
            }
            // Bind
            b'B' => {
                let (_, rest) = text(rest);
                let known = self.statements.get(text(rest).0).copied();
                Reading { point: known.unwrap_or(Some(Point::Statement)), ..Reading::default() }
            }
            // Sync or Flush
            b'S' | b'H' => Reading { is_complete: true, ..Reading::default() },
            _ => Reading::default(),
        }
    }
}

/// What the server says.
#[derive(Default)]
pub struct Answers {
    /// A call has ended, and nothing failed after it; its commit is yet to come.
    has_called: bool,
}

impl Reader for Answers {
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        typed_length(bytes)
    }

    fn read(&mut self, message: &[u8], _: bool) -> Reading {
        let point = match (message[0], &message[5..]) {
            // CommandComplete
            (b'C', b"BEGIN\0") => Some(Point::Begun),
            (b'C', b"COMMIT\0") => Some(Point::Committed),
            (b'C', b"CALL\0") => {
                self.has_called = true;
                None
            }
            // ErrorResponse
            (b'E', _) => {
                self.has_called = false;
                None
            }
            // ReadyForQuery, outside a transaction or in one
            (b'Z', status) => {
                let has_committed = std::mem::take(&mut self.has_called) && status == b"I";
                let point = if has_committed { Point::Committed } else { Point::Ready };
                let also = has_committed.then_some(Point::Ready);
                return Reading { point: Some(point), also, is_complete: true, ..Reading::default() };
            }
            _ => None,
        };
        Reading { point, ..Reading::default() }
    }
}

fn typed_length(bytes: &[u8]) -> Option<usize> {
    Some(1 + number(bytes.get(1..)?)?)
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()
}

/// A text that ends with a zero byte, and what follows.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).expect("the end of a text");
    (&bytes[..end], &bytes[end + 1..])
}

/// Where a statement stands, by its first word.
fn point(sql: &[u8]) -> Option<Point> {
    let sql = sql.trim_ascii_start();
    let end = sql.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(sql.len());
    match &*sql[..end].to_ascii_uppercase() {
        b"BEGIN" | b"START" => Some(Point::Begin),
        // Procedures are called outside transactions only, and commit when they are done.
        b"COMMIT" | b"END" | b"CALL" => Some(Point::Commit),
        b"ROLLBACK" | b"ABORT" => None,
        _ => Some(Point::Statement),
    }
}
