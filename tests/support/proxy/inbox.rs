use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, sleep_until},
};
use tokio_util::bytes::{Buf as _, BytesMut};

/// Bytes of a read.
const CHUNK: usize = 64 << 10;
/// Delayed bytes that are held before more is read.
const MOST_DELAYED: usize = 4 << 20;

/// What one side sent, each chunk as much later as the latency was when it came, in order.
pub struct Inbox<R> {
    from: R,
    bytes: BytesMut,
    /// How many of the bytes may be seen.
    ripe: usize,
    delayed: VecDeque<Chunk>,
}

struct Chunk {
    due: Instant,
    /// Zero is the end.
    length: usize,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub fn new(from: R) -> Self {
        Self { from, bytes: BytesMut::new(), ripe: 0, delayed: VecDeque::new() }
    }

    /// What came and was not taken yet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.ripe]
    }

    pub fn take(&mut self, length: usize) {
        self.bytes.advance(length);
        self.ripe -= length;
    }

    /// Waits for more; false at the end.
    pub async fn more(&mut self, latency: impl Fn() -> Duration) -> io::Result<bool> {
        loop {
            if let Some(chunk) = self.delayed.pop_front_if(|chunk| chunk.due <= Instant::now()) {
                self.ripe += chunk.length;
                return Ok(chunk.length > 0);
            }
            let due = self.delayed.front().map(|chunk| chunk.due);
            let is_ended = self.delayed.back().is_some_and(|chunk| chunk.length == 0);
            let is_full = self.bytes.len() - self.ripe >= MOST_DELAYED;
            self.bytes.reserve(CHUNK);
            tokio::select! {
                read = self.from.read_buf(&mut self.bytes), if !is_ended && !is_full => {
                    let length = read?;
                    let last = self.delayed.back().map(|chunk| chunk.due);
                    let due = Instant::now() + latency();
                    self.delayed.push_back(Chunk { due: last.map_or(due, |last| last.max(due)), length });
                }
                () = async { sleep_until(due.unwrap()).await }, if due.is_some() => {}
            }
        }
    }
}
