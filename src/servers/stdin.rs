//! Standard input: lines that are requests, and an end that means to stop.

use std::io::{self, BufRead, IsTerminal};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

/// What a thread reads there.
pub(super) struct Stdin {
    pub(super) lines: UnboundedReceiver<Vec<u8>>,
    /// Comes at once, also when lines before it still wait.
    pub(super) end: oneshot::Receiver<()>,
}

/// Starts to read, unless it is a terminal: there a person may type whatever they like.
// A thread instead of tokio's stdin: a read that never returns must not hold up the end of the runtime.
pub(super) fn read() -> Option<Stdin> {
    if io::stdin().is_terminal() {
        return None;
    }
    let (send_line, lines) = unbounded_channel();
    let (send_end, end) = oneshot::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
            let _ = send_line.send(line);
        }
        let _ = send_end.send(());
    });
    Some(Stdin { lines, end })
}
