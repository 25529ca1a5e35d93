//! A preview: what a replay would do, letter by letter and table by table, without doing it.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

use super::{
    frozen::Outcomes,
    trial::{self, Candidate, Letter, Verdict},
};
use crate::{
    apply::Lane,
    database::{self, Fault},
    decode::Limits,
    letters::Chosen,
    plan::Plan,
    settings::Settings,
};

/// Letters of a transaction. An organization with more is judged in several, each against today's rows.
const MAX_LETTERS: usize = 5000;

/// What would become of letters.
#[derive(Debug, Default, Serialize)]
pub struct Prediction {
    /// Letters by outcome.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// Rows by table.
    pub tables: BTreeMap<String, TableRows>,
}

/// What would become of a table's rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TableRows {
    /// New ones.
    pub inserted: i64,
    /// Others that change.
    pub updated: i64,
    /// Those that say the same already; of derived tables nobody looks.
    pub unchanged: Option<i64>,
}

/// Applies the letters as workers would, in transactions that are taken back; `progress` gets how many are done.
///
/// # Errors
///
/// When the database is away, or others are in the way for long.
pub async fn preview(
    settings: &Settings,
    letters: &[Chosen],
    mut progress: impl FnMut(u64),
) -> Result<Prediction, Fault> {
    let mut reader = database::connect_plainly(&settings.database).await?;
    let mut lane = Lane::new(settings.database.clone());
    let limits = Limits::from(&settings.limits);
    let mut prediction = Prediction::default();
    for part in parts(letters) {
        let read = read(&mut reader, &part.iter().map(|letter| letter.id).collect::<Vec<_>>()).await?;
        let trying = async |transaction: &mut PgConnection| try_all(transaction, &read, &limits).await;
        let (verdicts, tables) = trial::patiently(&mut lane, &settings.retry, trying).await?;
        for (letter, verdict) in read.iter().zip(verdicts) {
            prediction.outcomes.add(letter.id, verdict);
        }
        for (table, rows) in tables {
            let sum = prediction.tables.entry(table).or_default();
            sum.inserted += rows.inserted;
            sum.updated += rows.updated;
            sum.unchanged = sum.unchanged.map_or(rows.unchanged, |sum| Some(sum + rows.unchanged.unwrap_or_default()));
        }
        progress(part.len() as u64);
    }
    Ok(prediction)
}

/// Cuts letters, which are sorted by organization, into transactions; between organizations where it can be.
fn parts(letters: &[Chosen]) -> Vec<&[Chosen]> {
    let mut parts = Vec::new();
    let mut rest = letters;
    while !rest.is_empty() {
        let mut count = trial::that_fit(rest.iter().take(MAX_LETTERS).map(|letter| letter.bytes));
        if let Some(next) = rest.get(count) {
            let whole =
                rest[..count].iter().rposition(|letter| letter.org_id != next.org_id).map_or(0, |last| last + 1);
            if whole > 0 {
                count = whole;
            }
        }
        let (part, others) = rest.split_at(count);
        parts.push(part);
        rest = others;
    }
    parts
}

pub(super) async fn read(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<Letter>, Fault> {
    Ok(sqlx::query_as(include_str!("sql/read_letters.sql")).bind(ids).fetch_all(connection).await?)
}

type Tables = BTreeMap<String, TableRows>;

/// Judges all letters; then applies all that can be applied at once, for the sums: each row counts once.
async fn try_all(
    transaction: &mut PgConnection,
    letters: &[Letter],
    limits: &Limits,
) -> Result<(Vec<Verdict>, Tables), Fault> {
    let looked = trial::look_alone(transaction, letters, limits).await?;
    let mut judging = transaction.begin().await?;
    let (verdicts, candidates) = trial::judge(&mut judging, looked).await?;
    judging.rollback().await?;

    let is_taken = |candidate: &&Candidate| !matches!(verdicts[candidate.index], Verdict::Refused(_));
    let facts: Vec<_> = candidates.iter().filter(is_taken).flat_map(Candidate::facts).collect();
    let before = trial::written(transaction).await?;
    trial::apply_alone(transaction, &facts).await?;
    let after = trial::written(transaction).await?;
    let plan = Plan::fold(facts.iter().copied());
    let proposed = [
        ("participants", plan.participants.len()),
        ("participant_groups", plan.memberships.len()),
        ("activity_events", plan.activity.len()),
        ("org_telegram_groups", plan.groups.len()),
    ];
    let tables = after.into_iter().map(|(table, (inserted, updated))| {
        let (inserted_before, updated_before) = before.get(&table).copied().unwrap_or_default();
        let (inserted, updated) = (inserted - inserted_before, updated - updated_before);
        let proposed = proposed.iter().find(|(name, _)| *name == table);
        let unchanged =
            proposed.map(|(_, rows)| i64::try_from(*rows).unwrap_or(i64::MAX).saturating_sub(inserted + updated));
        (table, TableRows { inserted, updated, unchanged: unchanged.map(|rows| rows.max(0)) })
    });
    Ok((verdicts, tables.collect()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn chosen(org: u128, bytes: i32) -> Chosen {
        Chosen { id: 1, attempts: 1, status: "parked".into(), org_id: Some(Uuid::from_u128(org)), bytes }
    }

    #[test]
    fn organizations_stay_whole_where_they_can() {
        let letters: Vec<_> = (0..3).flat_map(|org| (0..2000).map(move |_| chosen(org, 100))).collect();
        assert_eq!(parts(&letters).iter().map(|part| part.len()).collect::<Vec<_>>(), [4000, 2000]);
        let letters: Vec<_> = (0..12_000).map(|_| chosen(1, 100)).collect();
        assert_eq!(parts(&letters).iter().map(|part| part.len()).collect::<Vec<_>>(), [5000, 5000, 2000]);
        let letters: Vec<_> = (0..40).map(|_| chosen(1, 1 << 20)).collect();
        assert_eq!(parts(&letters).iter().map(|part| part.len()).collect::<Vec<_>>(), [32, 8]);
        assert_eq!(parts(&[chosen(1, i32::MAX)]).len(), 1);
    }
}
