use std::time::Duration;

/// What passes, seen before it is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The broker delivers to a consumer; not the answer to a get.
    Deliver,
    /// The broker acks a publish.
    Confirm,
    /// A client publishes.
    Publish,
    /// A client acks.
    Ack,
    /// A client opens a channel.
    Open,
    /// A client asks for deliveries.
    Consume,
    /// A client begins a transaction.
    Begin,
    /// A client executes something that neither begins nor ends a transaction. A prepared statement is met where
    /// its parameters are bound, not where it is prepared.
    Statement,
    /// A client commits, or calls what commits when it is done.
    Commit,
    /// The database has begun a transaction.
    Begun,
    /// The database has committed.
    Committed,
    /// The database has answered all and waits: the end of a round trip.
    Ready,
}

/// What happens at a point. What came before it is forwarded first.
#[derive(Debug, Clone)]
pub enum Action {
    /// Holds this direction of this connection for so long, then forwards.
    Hold(Duration),
    /// Closes both sides (FIN) instead of forwarding.
    Cut,
    /// Resets both sides (RST) instead of forwarding.
    Reset,
    /// Forwards the first half of the frame or message, then closes both sides.
    CutInTheMiddle,
    /// Forwards, then closes both sides. What belongs together is forwarded whole: a message with its body, an
    /// execution up to its sync, an answer up to where the database is ready again. What a broker makes of its last
    /// bytes is open: it may drop what it has read of a connection that is gone.
    CutAfter,
    /// Swallows everything of this connection from here on, in both directions, and keeps it open. That one side
    /// closes it is swallowed too.
    Swallow,
    /// SIGKILL to a pid instead of forwarding, then closes both sides.
    Kill(u32),
    /// SIGSTOP to a pid, forwards, and SIGCONT after the time.
    Freeze(u32, Duration),
}
