use std::borrow::Cow;

use super::Seconds;

/// What one update says about one user in one chat. Its texts are those of the body where they stand there as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<'a> {
    /// Where.
    pub chat: Chat<'a>,
    /// Who: the sender, or the member who joined or left.
    pub user: User<'a>,
    /// How new this is, for everything where the newest wins.
    pub version: Version,
    /// The update's date; for an edit the original message's.
    pub date: Seconds,
    /// The message id, or minus the update id where the update has no message.
    pub source_id: i64,
    /// What happened.
    pub what: What<'a>,
}

impl Fact<'_> {
    pub(super) fn into_owned(self) -> Fact<'static> {
        let Self { chat, user, version, date, source_id, what } = self;
        let chat = Chat { id: chat.id, kind: chat.kind, title: owned(chat.title) };
        let Profile { username, first_name, last_name } = user.profile;
        let profile = Profile { username: owned(username), first_name: owned(first_name), last_name: owned(last_name) };
        let what = match what {
            What::Message(message) => What::Message(Box::new(Message { text: owned(message.text), ..*message })),
            What::Join => What::Join,
            What::Leave => What::Leave,
        };
        Fact { chat, user: User { id: user.id, profile }, version, date, source_id, what }
    }
}

fn owned(text: Option<Cow<'_, str>>) -> Option<Cow<'static, str>> {
    text.map(|text| Cow::Owned(text.into_owned()))
}

/// Orders facts: first by time, then by update id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The date, for an edit its `edit_date`.
    pub at: Seconds,
    /// The update's id.
    pub update_id: i64,
}

/// A group, as the update describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat<'a> {
    /// Telegram's id, never 0.
    pub id: i64,
    /// Its type.
    pub kind: ChatKind,
    /// Its title; `None` where absent or empty.
    pub title: Option<Cow<'a, str>>,
}

/// The chat types that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatKind {
    /// A basic group.
    Group,
    /// A supergroup.
    Supergroup,
}

impl ChatKind {
    /// Telegram's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Supergroup => "supergroup",
        }
    }
}

/// A Telegram user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User<'a> {
    /// Telegram's id.
    pub id: i64,
    /// The names at that time.
    pub profile: Profile<'a>,
}

/// The names of a user; absent and empty ones are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile<'a> {
    /// Without the @.
    pub username: Option<Cow<'a, str>>,
    /// First name.
    pub first_name: Option<Cow<'a, str>>,
    /// Last name.
    pub last_name: Option<Cow<'a, str>>,
}

impl Profile<'_> {
    /// First and last name joined by a blank, else the username, else `User <id>`.
    #[must_use]
    pub fn full_name(&self, user_id: i64) -> String {
        match (&self.first_name, &self.last_name, &self.username) {
            (Some(first), Some(last), _) => [first.as_ref(), " ", last.as_ref()].concat(),
            (Some(name), None, _) | (None, Some(name), _) | (None, None, Some(name)) => name.as_ref().to_owned(),
            (None, None, None) => format!("User {user_id}"),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What<'a> {
    /// The user wrote, or edited, a message.
    Message(Box<Message<'a>>),
    /// The user came.
    Join,
    /// The user went.
    Leave,
}

impl What<'_> {
    /// The event type of messages and their edits.
    pub const MESSAGE: &'static str = "message";

    /// The value of `activity_events.event_type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Message(_) => Self::MESSAGE,
            Self::Join => "join",
            Self::Leave => "leave",
        }
    }
}

/// What a message holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whether this is an edit of the message.
    pub is_edit: bool,
    /// The forum topic or thread.
    pub thread_id: Option<i64>,
    /// The message that this one answers.
    pub reply_to: Option<i64>,
    /// The content field's name; `None` for plain text.
    pub media: Option<&'static str>,
    /// Text or caption, where texts are kept.
    pub text: Option<Cow<'a, str>>,
    /// UTF-16 code units of the text, as Telegram counts.
    pub chars: i32,
    /// Entities `url` and `text_link`.
    pub links: i32,
    /// Entities `mention` and `text_mention`.
    pub mentions: i32,
}
