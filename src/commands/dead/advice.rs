//! What a reason means and what to do about it, in words.

use crate::decode::Reason;

/// A sentence that says what happened, and one that says what to do; `docs/dead-letters.md` tells more.
pub(super) const fn advice(reason: Reason) -> [&'static str; 2] {
    match reason {
        Reason::TooLarge => [
            "the body is longer than limits.max_body_bytes",
            "find out who publishes such bodies; if they are right, raise limits.max_body_bytes of all replicas and replay, else discard",
        ],
        Reason::MalformedJson => [
            "the body is not JSON in UTF-8, is empty, or is nested deeper than 64 levels",
            "mend the publisher; what it meant cannot be guessed: have it publish again, and discard this",
        ],
        Reason::InvalidEnvelope => [
            "the body is JSON, but a member that is needed is missing or has the wrong type",
            "mend the publisher and have it publish again, then discard this; if a newer rollcall reads it, replay",
        ],
        Reason::InvalidEvent => [
            "an id or a date is outside its range",
            "a date in the future: replay once it has come, or raise limits.max_clock_skew; else mend the publisher and discard",
        ],
        Reason::UnknownOrg => [
            "no organization has the id that the body names",
            "create the organization and replay with --org; if it was deleted on purpose, discard",
        ],
        Reason::UnmappedChat => [
            "the update came without an organization, and none has its chat as an active group",
            "set the chat's row in org_telegram_groups to active and replay; if nobody wants the chat, discard",
        ],
        Reason::DatabaseRejected => [
            "PostgreSQL would not store what the event says, also when it stood alone",
            "SQLSTATE and constraint say which rule of yours or of the schema it breaks; mend that and replay",
        ],
        Reason::RetriesExhausted => [
            "a fault that is neither an outage nor the data came every time it was tried",
            "SQLSTATE and PostgreSQL's log say what failed, often a trigger; mend that and replay",
        ],
        Reason::Quarantined => [
            "it was delivered again and again, as a body is that ends the process which looks into it",
            "see whether replicas crashed then; a dry run decodes it in a process of its own; report the bug, replay with the mended version",
        ],
        Reason::Foreign => [
            "something else than rollcall put it into the dead queue: a policy, a shovel, a person",
            "look at its headers, which nobody vouches for; replay it if it is an event, else discard",
        ],
    }
}
