//! Giving letters up, taking them back, and forgetting those that were resolved long ago.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Chosen, Status};
use crate::database::Fault;

/// Rows that a statement takes at most: short locks.
const STEP: u16 = 1000;

/// Gives parked letters up; they are kept. Those that came again or were resolved since they were chosen stay as
/// they are. Returns how many.
///
/// # Errors
///
/// When it could not be done; some may be done.
pub async fn discard(connection: &mut PgConnection, letters: &[Chosen], who: &str, note: &str) -> Result<u64, Fault> {
    resolve(connection, letters, [Status::Parked, Status::Discarded], ["discarded", who, note]).await
}

/// Parks letters again that were discarded or replayed. Returns how many.
///
/// # Errors
///
/// When it could not be done; some may be done.
pub async fn restore(connection: &mut PgConnection, letters: &[Chosen], who: &str, note: &str) -> Result<u64, Fault> {
    let mut count = 0;
    for from in [Status::Discarded, Status::Replayed] {
        count += resolve(connection, letters, [from, Status::Parked], ["restored", who, note]).await?;
    }
    Ok(count)
}

async fn resolve(
    connection: &mut PgConnection,
    letters: &[Chosen],
    [from, to]: [Status; 2],
    [what, who, note]: [&str; 3],
) -> Result<u64, Fault> {
    let mut count = 0;
    for step in letters.chunks(STEP.into()) {
        let query = sqlx::query(include_str!("sql/resolve_letters.sql"))
            .bind(step.iter().map(|letter| letter.id).collect::<Vec<_>>())
            .bind(step.iter().map(|letter| letter.attempts).collect::<Vec<_>>())
            .bind(from.name())
            .bind(to.name())
            .bind(what)
            .bind(who)
            .bind(note);
        count += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(count)
}

/// Deletes letters that were resolved longer ago than `keep`, a bounded number at once, and replays without
/// letters. Returns how many letters.
///
/// # Errors
///
/// When it could not be done.
pub async fn expire(connection: &mut PgConnection, keep: Duration) -> Result<u64, Fault> {
    let seconds = keep.as_secs_f64();
    let query = sqlx::query(include_str!("sql/expire_letters.sql")).bind(seconds).bind(i64::from(STEP));
    let letters = query.execute(&mut *connection).await?.rows_affected();
    sqlx::query(include_str!("sql/expire_replays.sql")).bind(seconds).execute(connection).await?;
    Ok(letters)
}
