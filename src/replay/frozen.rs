//! The frozen set of a replay: which letters, and how far each has come. Kept in the database.

use serde::Serialize;
use sqlx::PgConnection;

use super::trial::Verdict;
use crate::{database::Fault, letters::Chosen};

/// First half of the advisory lock that a running replay holds; its id is the second.
const LOCK: i32 = 1_919_904_877;
/// Rows that a statement writes.
const STEP: usize = 10_000;
/// Kinds of refusals, and skipped letters, that a report tells one by one.
const TOLD: usize = 50;

pub(super) const DEADLY: &str = "it ends the process that decodes it";

/// Letters by what became of them, or would.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// All of them.
    pub letters: u64,
    /// Changed rows.
    pub applied: u64,
    /// Were in the rows already.
    pub already_applied: u64,
    /// Hold no fact.
    pub ignored: u64,
    /// Came back.
    pub refused: u64,
    /// Could not be published again, or somebody else was faster.
    pub skipped: u64,
    /// Published, with nothing known of them yet.
    pub published: u64,
    /// Not published yet.
    pub waiting: u64,
    /// Why some came back, the most frequent first; the first 50 kinds.
    pub refusals: Vec<Refusals>,
    /// Why some were skipped; the first 50.
    pub skips: Vec<Unsettled>,
}

/// Letters that were refused for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Refusals {
    /// Its code and what exactly.
    pub why: String,
    /// How many.
    pub letters: i64,
    /// The id of one.
    pub example: i64,
}

/// A letter that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Unsettled {
    /// Its id.
    pub letter: i64,
    /// Why.
    pub why: String,
}

impl Outcomes {
    pub(super) fn add(&mut self, id: i64, verdict: Verdict) {
        self.letters += 1;
        match verdict {
            Verdict::Applied => self.applied += 1,
            Verdict::AlreadyApplied => self.already_applied += 1,
            Verdict::Ignored => self.ignored += 1,
            Verdict::Refused(refusal) => {
                self.refused += 1;
                let why = refusal.to_string();
                if let Some(refusals) = self.refusals.iter_mut().find(|refusals| refusals.why == why) {
                    refusals.letters += 1;
                } else if self.refusals.len() < TOLD {
                    self.refusals.push(Refusals { why, letters: 1, example: id });
                }
            }
            Verdict::Deadly => {
                self.skipped += 1;
                if self.skips.len() < TOLD {
                    self.skips.push(Unsettled { letter: id, why: DEADLY.into() });
                }
            }
        }
    }
}

/// A state that a letter of a replay has reached for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Applied,
    AlreadyApplied,
    Ignored,
    Refused,
    Skipped,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already_applied",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        }
    }
}

/// A letter that is not done.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Open {
    pub(super) letter_id: i64,
    pub(super) attempts: i32,
    pub(super) bytes: i32,
    /// What was predicted when it was published, the name of a state; empty before.
    pub(super) predicted: String,
}

/// How a letter stands in the table of dead letters.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Standing {
    pub(super) id: i64,
    pub(super) attempts: i32,
    pub(super) status: String,
    /// Its reason and detail.
    pub(super) why: String,
}

/// A replay and who acts.
#[derive(Debug, Clone)]
pub(super) struct Frozen {
    pub(super) id: i64,
    pub(super) who: String,
}

impl Frozen {
    /// Writes the set down, and takes its lock.
    pub(super) async fn freeze(
        connection: &mut PgConnection,
        letters: &[Chosen],
        who: &str,
        note: &str,
    ) -> Result<Self, Fault> {
        let starting =
            sqlx::query_scalar("insert into dead_letter_replays (started_by, note) values ($1, $2) returning id");
        let id = starting.bind(who).bind(note).fetch_one(&mut *connection).await?;
        let frozen = Self { id, who: who.to_owned() };
        frozen.lock(connection).await?;
        for step in letters.chunks(STEP) {
            // Letters that were deleted since cannot be replayed.
            let adding = sqlx::query(include_str!("sql/freeze_letters.sql"))
                .bind(id)
                .bind(step.iter().map(|letter| letter.id).collect::<Vec<_>>())
                .bind(step.iter().map(|letter| letter.attempts).collect::<Vec<_>>());
            adding.execute(&mut *connection).await?;
        }
        Ok(frozen)
    }

    /// Whether nobody else runs this replay; from then on nobody can, as long as the connection lives.
    pub(super) async fn lock(&self, connection: &mut PgConnection) -> Result<bool, Fault> {
        let locking = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(LOCK);
        Ok(locking.bind(i32::try_from(self.id % i64::from(i32::MAX)).unwrap_or_default()).fetch_one(connection).await?)
    }

    /// Letters in this state, `waiting` or `published`, in the order of their ids.
    pub(super) async fn open(
        &self,
        connection: &mut PgConnection,
        state: &str,
        limit: usize,
    ) -> Result<Vec<Open>, Fault> {
        let query = sqlx::query_as(include_str!("sql/open_letters.sql")).bind(self.id).bind(state);
        Ok(query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(connection).await?)
    }

    /// Locks letters until the end of the transaction.
    pub(super) async fn claim(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Standing>, Fault> {
        Ok(sqlx::query_as(include_str!("sql/claim_letters.sql")).bind(ids).fetch_all(connection).await?)
    }

    /// Notes that letters are in a queue again, with what was predicted of them.
    pub(super) async fn published(&self, connection: &mut PgConnection, letters: &[(i64, &str)]) -> Result<(), Fault> {
        let query = sqlx::query(include_str!("sql/note_published.sql"))
            .bind(self.id)
            .bind(&self.who)
            .bind(letters.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .bind(letters.iter().map(|(_, predicted)| *predicted).collect::<Vec<_>>());
        query.execute(connection).await?;
        Ok(())
    }

    /// Notes what became of letters.
    pub(super) async fn ended(
        &self,
        connection: &mut PgConnection,
        letters: &[(i64, State, String)],
    ) -> Result<(), Fault> {
        let query = sqlx::query(include_str!("sql/note_outcomes.sql"))
            .bind(self.id)
            .bind(&self.who)
            .bind(letters.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
            .bind(letters.iter().map(|(_, state, _)| state.name()).collect::<Vec<_>>())
            .bind(letters.iter().map(|(.., why)| why.as_str()).collect::<Vec<_>>());
        query.execute(connection).await?;
        Ok(())
    }

    /// Those of these letters that came back since the set was frozen.
    pub(super) async fn came_back(&self, connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Standing>, Fault> {
        Ok(sqlx::query_as(include_str!("sql/came_back.sql")).bind(self.id).bind(ids).fetch_all(connection).await?)
    }

    /// What became of all letters so far; notes the end, where there are no open ones.
    pub(super) async fn outcomes(&self, connection: &mut PgConnection) -> Result<Outcomes, Fault> {
        let mut outcomes = Outcomes::default();
        let counting = sqlx::query_as(include_str!("sql/count_outcomes.sql")).bind(self.id);
        let counts: Vec<(String, i64)> = counting.fetch_all(&mut *connection).await?;
        for (state, count) in counts {
            let count = u64::try_from(count).unwrap_or_default();
            outcomes.letters += count;
            *match state.as_str() {
                "applied" => &mut outcomes.applied,
                "already_applied" => &mut outcomes.already_applied,
                "ignored" => &mut outcomes.ignored,
                "refused" => &mut outcomes.refused,
                "skipped" => &mut outcomes.skipped,
                "published" => &mut outcomes.published,
                _ => &mut outcomes.waiting,
            } = count;
        }
        let told = i64::try_from(TOLD).unwrap_or(i64::MAX);
        let query = sqlx::query_as(include_str!("sql/list_refusals.sql")).bind(self.id).bind(told);
        outcomes.refusals = query.fetch_all(&mut *connection).await?;
        let query = sqlx::query_as(include_str!("sql/list_skips.sql")).bind(self.id).bind(told);
        outcomes.skips = query.fetch_all(&mut *connection).await?;
        if outcomes.waiting + outcomes.published == 0 {
            let ending = "update dead_letter_replays set finished_at = now() where id = $1 and finished_at is null";
            sqlx::query(ending).bind(self.id).execute(connection).await?;
        }
        Ok(outcomes)
    }
}

/// A replay with letters to go.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Unfinished {
    /// For taking it up again.
    pub id: i64,
    /// When.
    pub started_at: String,
    /// By whom.
    pub started_by: String,
    /// How many.
    pub letters: i64,
}

/// Replays that run, or were stopped, with letters to go.
///
/// # Errors
///
/// When they could not be read.
pub async fn unfinished(connection: &mut PgConnection) -> Result<Vec<Unfinished>, Fault> {
    Ok(sqlx::query_as(include_str!("sql/list_unfinished.sql")).fetch_all(connection).await?)
}
