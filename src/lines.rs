//! Lines of a file of any size, each bounded.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The longest message that any supported broker takes.
const MAX_LINE_BYTES: usize = 128 << 20;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    /// Without its end; `None` if it is longer than any message may be.
    pub body: Option<Vec<u8>>,
}

/// Reads lines as bytes.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    number: u64,
    max_bytes: usize,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Reads from the input.
    pub const fn new(input: R) -> Self {
        Self { input, number: 0, max_bytes: MAX_LINE_BYTES }
    }

    /// The next line; the last one needs no end.
    ///
    /// # Errors
    ///
    /// When the input cannot be read.
    pub async fn next(&mut self) -> std::io::Result<Option<Line>> {
        let mut body = Some(Vec::new());
        let mut is_empty = true;
        loop {
            let chunk = self.input.fill_buf().await?;
            if chunk.is_empty() && is_empty {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let is_last = end.is_some() || chunk.is_empty();
            let (part, used) = end.map_or((chunk, chunk.len()), |end| (&chunk[..end], end + 1));
            body = body.filter(|body| body.len() + part.len() <= self.max_bytes).map(|mut body| {
                body.extend_from_slice(part);
                body
            });
            is_empty = false;
            self.input.consume(used);
            if is_last {
                self.number += 1;
                return Ok(Some(Line { number: self.number, body }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn lines(text: &[u8], max_bytes: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut lines = Lines { input: BufReader::with_capacity(3, text), number: 0, max_bytes };
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push((line.number, line.body));
        }
        read
    }

    #[tokio::test]
    async fn lines_are_bytes_and_blank_ones_count() {
        let some = |text: &[u8]| Some(text.to_vec());
        assert_eq!(
            lines(b"a\xff\r\n\nlast one", 99).await,
            [(1, some(b"a\xff\r")), (2, some(b"")), (3, some(b"last one"))]
        );
        assert_eq!(lines(b"a\n", 99).await, [(1, some(b"a"))]);
        assert_eq!(lines(b"", 99).await, []);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_numbered_and_passed() {
        assert_eq!(lines(b"abcdefghij\nok\n", 5).await, [(1, None), (2, Some(b"ok".to_vec()))]);
    }
}
