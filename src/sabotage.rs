//! Bugs that the tests turn on, to see that they would be found. A release build has none of them: there
//! [`is_on`] is a constant, and the compiler takes away what asks it.

/// A bug that could have been written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A delivery is acked when it comes in.
    AckBeforeCommit,
    /// An ack of several stands for open deliveries too.
    AckPastOpen,
    /// A message that comes again is counted again.
    CountTwice,
    /// The name that came last wins.
    ArrivalWins,
    /// Rows are written in any order.
    Unsorted,
    /// All rows of a transaction go to its first organization.
    FirstOrganization,
    /// The time of the worker's clock is the time of the activity.
    OwnClock,
    /// A transaction that another one was in the way of counts as done.
    ConflictIsDone,
    /// A transaction whose commit was not answered counts as done.
    NoAnswerIsDone,
    /// A database that is read-only refuses the data.
    ReadOnlyIsData,
    /// A full disk is a fault of unknown kind.
    FullDiskIsUnknown,
    /// A dead letter counts as published when it is sent.
    NotConfirmed,
    /// A dead letter that no queue takes counts as published.
    NotMandatory,
    /// The body of a dead letter is mended.
    MendedBody,
    /// A dead letter is acked before its row is stored.
    ArchiveAcksFirst,
    /// The end of a partition's deliveries is not noticed.
    EndUnnoticed,
    /// Some bodies end the process that reads them.
    CrashingBody,
    /// Over some bodies the task that reads them panics, with all of the body in the message.
    PanickingBody,
}

impl Bug {
    /// Every bug, with the name that turns it on.
    pub const ALL: [(Self, &str); 18] = [
        (Self::AckBeforeCommit, "ack-before-commit"),
        (Self::AckPastOpen, "ack-past-open"),
        (Self::CountTwice, "count-twice"),
        (Self::ArrivalWins, "arrival-wins"),
        (Self::Unsorted, "unsorted"),
        (Self::FirstOrganization, "first-organization"),
        (Self::OwnClock, "own-clock"),
        (Self::ConflictIsDone, "conflict-is-done"),
        (Self::NoAnswerIsDone, "no-answer-is-done"),
        (Self::ReadOnlyIsData, "read-only-is-data"),
        (Self::FullDiskIsUnknown, "full-disk-is-unknown"),
        (Self::NotConfirmed, "not-confirmed"),
        (Self::NotMandatory, "not-mandatory"),
        (Self::MendedBody, "mended-body"),
        (Self::ArchiveAcksFirst, "archive-acks-first"),
        (Self::EndUnnoticed, "end-unnoticed"),
        (Self::CrashingBody, "crashing-body"),
        (Self::PanickingBody, "panicking-body"),
    ];
}

/// The environment variable that names the bug that is on.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "ROLLCALL_TEST_BUG";

/// Whether a bug is on.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_on(bug: Bug) -> bool {
    use std::sync::LazyLock;

    static ON: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let found = Bug::ALL.iter().find(|(_, known)| *known == name);
        Some(found.unwrap_or_else(|| panic!("{VARIABLE} names no bug: {name}")).0)
    });
    *ON == Some(bug)
}

/// Whether a bug is on: never.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_on(_: Bug) -> bool {
    false
}

/// Ends the process, or panics, over a body that says so, as a bug in the decoder would.
///
/// # Panics
///
/// Where that is the bug that is on.
pub fn look_at(body: &[u8]) {
    const MARK: &[u8] = b"this body ends the process";
    let is_marked = || body.windows(MARK.len()).any(|window| window == MARK);
    if is_on(Bug::CrashingBody) && is_marked() {
        std::process::abort();
    }
    assert!(!(is_on(Bug::PanickingBody) && is_marked()), "cannot read {}", String::from_utf8_lossy(body));
}
