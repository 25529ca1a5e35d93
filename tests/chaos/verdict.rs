//! What a run left behind, against what it should have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use rollcall::decode::Reason;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::{
    load::Load,
    support::{Place, model::rows},
};

/// All zero where all is well.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Rows and dead letters that should be there and are not.
    pub lost: u64,
    /// People and memberships that are there twice, and figures above the recount.
    pub duplicated: u64,
    /// Rows that should not be there, or differ.
    pub unexpected: u64,
    /// Dead letters that should not be there, or have another reason.
    pub false_dead_letters: u64,
    /// Deliveries that were acked while nothing showed them yet.
    pub early_acks: u64,
    /// What else went wrong.
    pub troubles: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    pub fn trouble(&mut self, trouble: impl Into<String>) {
        self.troubles.push(trouble.into());
    }

    /// Compares everything.
    pub async fn judge(&mut self, place: &Place, load: &Load) {
        let mut connection = place.connect().await;
        let orgs = load.org_ids();
        let (expected, found) = (load.rows(), rows::read(&mut connection, &orgs).await);
        self.compare(expected.groups, found.groups, |row| (row.org_id, row.tg_chat_id));
        self.compare(expected.participants, found.participants, |row| (row.org_id, row.tg_user_id));
        self.compare(expected.memberships, found.memberships, |row| (row.org_id, row.tg_chat_id, row.tg_user_id));
        self.compare(expected.activity, found.activity, |row| {
            (row.org_id, row.tg_chat_id, row.event_type.clone(), row.source_id, row.tg_user_id)
        });
        let (above, below) = place.recount().await;
        self.duplicated += above.unsigned_abs();
        self.lost += below.unsigned_abs();
        self.compare_dead(&mut connection, load).await;
    }

    fn compare<T: Ord + Debug, K: Ord + Debug>(&mut self, expected: Vec<T>, found: Vec<T>, key: impl Fn(&T) -> K) {
        let mut wanted: BTreeMap<K, T> = expected.into_iter().map(|row| (key(&row), row)).collect();
        let mut had = BTreeSet::new();
        for row in found {
            let key = key(&row);
            match wanted.remove(&key) {
                Some(expected) if expected == row => {}
                Some(expected) => self.unexpected(&format!("{row:?} instead of {expected:?}")),
                None if had.contains(&key) => self.duplicated += 1,
                None => self.unexpected(&format!("{row:?}")),
            }
            had.insert(key);
        }
        self.lost += wanted.len() as u64;
    }

    /// The first says enough.
    fn unexpected(&mut self, row: &str) {
        if self.unexpected == 0 {
            self.trouble(format!("unexpected: {row}"));
        }
        self.unexpected += 1;
    }

    async fn compare_dead(&mut self, connection: &mut PgConnection, load: &Load) {
        let mut wanted = load.dead();
        let query = sqlx::query_as("select body, reason, detail from dead_letters where status = 'parked'");
        let letters: Vec<(Vec<u8>, String, String)> = query.fetch_all(connection).await.unwrap();
        for (body, reason, detail) in letters {
            if wanted.remove(&body).map(Reason::code) != Some(&reason) {
                if self.false_dead_letters == 0 {
                    self.trouble(format!("false dead letter: {reason}: {detail}"));
                }
                self.false_dead_letters += 1;
            }
        }
        self.lost += wanted.len() as u64;
    }
}
