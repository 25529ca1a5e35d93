//! Apply: writes the batches of some organizations in one transaction, all or nothing.

mod statements;
mod timestamp;

use std::collections::{HashMap, HashSet};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    database::{self, Fault},
    decode::Fact,
    plan::Plan,
    sabotage::{Bug, is_on},
    settings,
};
pub(crate) use statements::{find_activity, find_organizations, lock_out};

/// Fewer facts are as soon written as asked for.
const WORTH_ASKING: usize = 16;

/// A connection that writes, opened when needed and given up after any error.
#[derive(Debug)]
pub struct Lane {
    settings: settings::Database,
    connection: Option<PgConnection>,
    /// Whether the last transaction found all that it should write.
    repeats: bool,
}

/// The organizations that have a chat as an active group.
pub type Chats = HashMap<i64, Vec<Uuid>>;

/// What became of the organizations of a transaction. Those in neither set were committed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// They do not exist.
    pub unknown: HashSet<Uuid>,
    /// Somebody merges people there right now; nothing was written.
    pub busy: HashSet<Uuid>,
    /// Whether other transactions wrote some of the same rows meanwhile.
    pub met: bool,
    /// Whether all of it was there before, so that nothing was written.
    pub known: bool,
}

impl Lane {
    /// A lane that is not connected yet.
    #[must_use]
    pub fn new(settings: settings::Database) -> Self {
        Self { settings, connection: None, repeats: false }
    }

    /// Connects, and lets the server compile what [`Self::apply`] calls: a first transaction takes longer otherwise.
    ///
    /// # Errors
    ///
    /// When the database cannot be used; then `apply` will say so too.
    pub async fn open(&mut self) -> Result<(), Fault> {
        self.bounded(async |connection| statements::write(connection, &Plan::default()).await).await.map(drop)
    }

    /// Writes the facts, each with its organization, in any order. Where the last ones were there before, as after a crash, it asks
    /// first whether these are, which is much less to send and to look up; where they are not, it was for nothing.
    ///
    /// # Errors
    ///
    /// Nothing was written, or, where the connection broke at the commit, perhaps all was: trying again
    /// is right in both cases.
    pub async fn apply(&mut self, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
        if is_on(Bug::Unsorted) {
            return self.transaction(async |transaction| apply_unsorted(transaction, facts).await).await;
        }
        let asks = self.repeats && facts.len() >= WORTH_ASKING;
        let bounded = self.bounded(async |connection| {
            let applied = if asks { apply_again(connection, facts).await } else { apply(connection, facts).await };
            match applied {
                Err(fault) if !fault.leaves_connection() => Err(fault),
                done => Ok(done),
            }
        });
        let applied = bounded.await??;
        self.repeats = applied.known;
        Ok(applied)
    }

    /// The organizations that have these chats as active groups.
    ///
    /// # Errors
    ///
    /// When they could not be read.
    pub async fn route(&mut self, chats: &[i64]) -> Result<Chats, Fault> {
        self.bounded(async |connection| route(connection, chats).await).await
    }

    /// Runs something in a transaction, and commits it.
    pub(crate) async fn transaction<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.bounded(async |connection| {
            let mut transaction = connection.begin().await?;
            match work(&mut transaction).await {
                Ok(done) => {
                    transaction.commit().await?;
                    Ok(Ok(done))
                }
                // After this the connection is as good as before.
                Err(fault) if fault.leaves_connection() => {
                    transaction.rollback().await?;
                    Ok(Err(fault))
                }
                Err(fault) => Err(fault),
            }
        })
        .await?
    }

    /// Runs something in a transaction, and takes it back.
    pub(crate) async fn trial<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.bounded(async |connection| {
            let mut transaction = connection.begin().await?;
            let done = work(&mut transaction).await?;
            transaction.rollback().await?;
            Ok(done)
        })
        .await
    }

    /// Runs something on the connection. It is kept only after success: what an error or the time limit
    /// leaves behind on it is never found by the next transaction.
    async fn bounded<T>(&mut self, work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => database::connect(&self.settings).await?,
        };
        let done = tokio::time::timeout(self.settings.transaction_timeout, work(&mut connection)).await;
        let done =
            done.map_err(|_| Fault::Outage(format!("no answer within {:?}", self.settings.transaction_timeout)))??;
        self.connection = Some(connection);
        Ok(done)
    }
}

/// Writes the facts, each with its organization, in any order, within a transaction that the caller began, or in one of its own.
///
/// # Errors
///
/// When something was not written; then nothing of the caller's transaction may be committed.
pub async fn apply(connection: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
    write(connection, facts, false).await
}

/// The same for facts that were probably written before: asks for that first.
///
/// # Errors
///
/// As for [`apply`].
pub async fn apply_again(connection: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
    write(connection, facts, true).await
}

async fn write(connection: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)], asks: bool) -> Result<Applied, Fault> {
    let mut left_out = Applied::default();
    loop {
        let is_left_out = |org: &Uuid| left_out.busy.contains(org) || left_out.unknown.contains(org);
        let plan = Plan::fold(facts.iter().copied().filter(|(org, _)| !is_left_out(org)));
        if plan.participants.is_empty() {
            return Ok(left_out);
        }
        let counts_again = is_on(Bug::CountTwice)
            && !find_activity(connection, &plan.activity.iter().map(|(key, _)| *key).collect()).await?.is_empty();
        let Applied { busy, unknown, met, known } = if asks && statements::are_known(connection, &plan).await? {
            Applied { known: true, ..Applied::default() }
        } else {
            statements::write(connection, &plan).await?
        };
        left_out.met |= met;
        left_out.known = known;
        if counts_again {
            statements::count_again(connection).await?;
        }
        if busy.is_empty() && unknown.is_empty() {
            return Ok(left_out);
        }
        left_out.busy.extend(busy);
        left_out.unknown.extend(unknown);
    }
}

/// What [`Bug::Unsorted`] does: one organization after the other, in any order.
async fn apply_unsorted(transaction: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
    let mut applied = Applied::default();
    // A hash set has another order each time.
    let orgs: HashSet<Uuid> = facts.iter().map(|(org, _)| *org).collect();
    for org in orgs {
        let own: Vec<_> = facts.iter().copied().filter(|(other, _)| *other == org).collect();
        let Applied { busy, unknown, met, .. } = apply(transaction, &own).await?;
        applied.busy.extend(busy);
        applied.unknown.extend(unknown);
        applied.met |= met;
    }
    Ok(applied)
}

/// The organizations that have these chats as active groups.
///
/// # Errors
///
/// When they could not be read.
pub async fn route(connection: &mut PgConnection, chats: &[i64]) -> Result<Chats, Fault> {
    let mut orgs = Chats::new();
    for (chat, org) in statements::find_active_groups(connection, chats).await? {
        orgs.entry(chat).or_default().push(org);
    }
    Ok(orgs)
}
