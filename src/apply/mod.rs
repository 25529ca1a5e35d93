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
    /// The partition that the connection has claimed.
    claimed: Option<i32>,
}

/// What a writer asks while it writes: which partition is its own in the next transaction, as far as others heed that. They see it
/// in the database.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The one that is wanted most comes first. Of none nothing is asked.
    pub partitions: Vec<i32>,
    /// Whether the first one that is free is claimed, instead of only looked whether others have claimed any.
    pub claims: bool,
}

/// A claim that a call changes.
#[derive(Default)]
struct Claim<'a> {
    wanted: &'a [i32],
    claims: bool,
    held: Option<i32>,
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
    /// Whether others have claimed a partition that was wanted.
    pub others: bool,
}

impl Lane {
    /// A lane that is not connected yet.
    #[must_use]
    pub fn new(settings: settings::Database) -> Self {
        Self { settings, connection: None, repeats: false, claimed: None }
    }

    /// Connects, and lets the server compile what [`Self::apply`] calls: a first transaction takes longer otherwise.
    ///
    /// # Errors
    ///
    /// When the database cannot be used; then `apply` will say so too.
    pub async fn open(&mut self) -> Result<(), Fault> {
        self.bounded(async |connection| statements::write(connection, &Plan::default(), &mut Claim::default()).await)
            .await
            .map(drop)
    }

    /// Writes the facts, each with its organization, in any order. Where the last ones were there before, as after a crash, it asks
    /// first whether these are, which is much less to send and to look up; where they are not, it was for nothing.
    ///
    /// # Errors
    ///
    /// Nothing was written, or, where the connection broke at the commit, perhaps all was: trying again
    /// is right in both cases.
    pub async fn apply(&mut self, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
        self.apply_and_claim(facts, &Wanted::default()).await
    }

    /// The same, and claims a partition, instead of the one before, for which see [`Self::claimed`].
    ///
    /// # Errors
    ///
    /// As for [`Self::apply`]; then nothing is claimed any more.
    pub async fn apply_and_claim(&mut self, facts: &[(Uuid, &Fact<'_>)], wanted: &Wanted) -> Result<Applied, Fault> {
        let mut claim = Claim { wanted: &wanted.partitions, claims: wanted.claims, held: self.claimed.take() };
        if is_on(Bug::Unsorted) {
            return self.transaction(async |transaction| apply_unsorted(transaction, facts).await).await;
        }
        let asks = self.repeats && facts.len() >= WORTH_ASKING;
        let bounded = self.bounded(async |connection| {
            match write(connection, facts, asks, &mut claim).await {
                Err(fault) if !fault.leaves_connection() => Err(fault),
                Err(fault) => {
                    // What is claimed outlives the transaction.
                    if claim.claims || claim.held.is_some() {
                        statements::give_back(connection).await?;
                    }
                    Ok(Err(fault))
                }
                done => Ok(done),
            }
        });
        let applied = bounded.await??;
        self.repeats = applied.known;
        self.claimed = claim.held;
        Ok(applied)
    }

    /// Gives back what is claimed, before others wait for nothing.
    pub async fn give_back(&mut self) {
        if self.claimed.take().is_some() {
            // Where that fails the connection is given up, and with it the claim.
            let _ = self.bounded(async |connection| statements::give_back(connection).await).await;
        }
    }

    /// The partition that is claimed until the next call.
    #[must_use]
    pub fn claimed(&self) -> Option<usize> {
        self.claimed.and_then(|partition| partition.try_into().ok())
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
    write(connection, facts, false, &mut Claim::default()).await
}

/// The same for facts that were probably written before: asks for that first.
///
/// # Errors
///
/// As for [`apply`].
pub async fn apply_again(connection: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)]) -> Result<Applied, Fault> {
    write(connection, facts, true, &mut Claim::default()).await
}

async fn write(
    connection: &mut PgConnection,
    facts: &[(Uuid, &Fact<'_>)],
    asks: bool,
    claim: &mut Claim<'_>,
) -> Result<Applied, Fault> {
    let mut left_out = Applied::default();
    loop {
        let is_left_out = |org: &Uuid| left_out.busy.contains(org) || left_out.unknown.contains(org);
        let plan = Plan::fold(facts.iter().copied().filter(|(org, _)| !is_left_out(org)));
        if plan.participants.is_empty() {
            return Ok(left_out);
        }
        let counts_again = is_on(Bug::CountTwice)
            && !find_activity(connection, &plan.activity.iter().map(|(key, _)| *key).collect()).await?.is_empty();
        let Applied { busy, unknown, met, known, others } = if asks && statements::are_known(connection, &plan).await? {
            Applied { known: true, ..Applied::default() }
        } else {
            statements::write(connection, &plan, claim).await?
        };
        left_out.met |= met;
        left_out.known = known;
        left_out.others |= others;
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
