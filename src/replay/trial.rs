//! A trial: letters are decoded and applied as a worker would, to see what each of them changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    env,
    process::Stdio,
};

use sqlx::{Connection as _, PgConnection};
use tokio::{io::AsyncWriteExt as _, process::Command};
use uuid::Uuid;

use crate::{
    apply::{self, Lane},
    clock,
    database::Fault,
    decode::{self, Event, Fact, Limits, Reason, Refusal},
    plan::ActivityKey,
    retry::Backoff,
    settings::Retry,
};

/// A letter as far as a replay needs it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) reason: String,
    pub(super) routing_key: String,
    pub(super) body: Vec<u8>,
}

/// Bodies that are held at once, in bytes; a single longer one still is.
const MAX_BYTES: usize = 32 << 20;

/// How many of the first bodies, of these lengths, are held at once; at least one.
pub(super) fn that_fit(lengths: impl Iterator<Item = i32>) -> usize {
    let mut bytes = 0;
    let fits = |length: &i32| {
        bytes += usize::try_from(*length).unwrap_or_default();
        bytes <= MAX_BYTES
    };
    lengths.take_while(fits).count().max(1)
}

/// What applying a letter does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It changes rows.
    Applied,
    /// All that it says is in the rows.
    AlreadyApplied,
    /// It holds no fact.
    Ignored,
    /// It is refused.
    Refused(Refusal),
    /// It ends the process that looks into it.
    Deadly,
}

impl Verdict {
    /// As it is noted while nobody knows the outcome.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already_applied",
            Self::Ignored => "ignored",
            Self::Refused(_) => "refused",
            Self::Deadly => "skipped",
        }
    }
}

/// A letter that was decoded, with the organizations that it goes to.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which of the letters.
    pub(super) index: usize,
    pub(super) orgs: Vec<Uuid>,
    pub(super) event: Event<'static>,
}

impl Candidate {
    pub(super) fn facts(&self) -> impl Iterator<Item = (Uuid, &Fact<'_>)> {
        self.orgs.iter().flat_map(|org| self.event.facts.iter().map(|fact| (*org, fact)))
    }

    fn activity(&self) -> impl Iterator<Item = ActivityKey> {
        self.facts().map(|(org, fact)| (org, fact.user.id, fact.chat.id, fact.what.name(), fact.source_id))
    }
}

/// What was found out about some letters without writing anything.
#[derive(Debug)]
pub(super) struct Looked {
    /// By index; `None` for the candidates.
    pub(super) verdicts: Vec<Option<Verdict>>,
    pub(super) candidates: Vec<Candidate>,
}

/// Tries of a transaction that others are in the way of.
const TRIES: u32 = 10;

/// Runs a trial, again where others were in the way.
pub(super) async fn patiently<T>(
    lane: &mut Lane,
    retry: &Retry,
    work: impl AsyncFn(&mut PgConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut backoff = Backoff::new(retry);
    for _ in 1..TRIES {
        match lane.trial(&work).await {
            Err(Fault::Conflict(_)) => tokio::time::sleep(backoff.next_wait()).await,
            done => return done,
        }
    }
    lane.trial(&work).await
}

/// Decodes letters and finds their organizations.
pub(super) async fn look(connection: &mut PgConnection, letters: &[Letter], limits: &Limits) -> Result<Looked, Fault> {
    let mut verdicts = vec![None; letters.len()];
    let mut candidates = Vec::new();
    for (index, letter) in letters.iter().enumerate() {
        // What was quarantined perhaps ends this process too.
        if letter.reason == Reason::Quarantined.code() && !survives(&letter.body).await {
            verdicts[index] = Some(Verdict::Deadly);
            continue;
        }
        match decode::decode(&letter.body, limits, clock::now()) {
            Ok(Some(event)) => {
                candidates.push(Candidate { index, orgs: event.org.into_iter().collect(), event: event.into_owned() });
            }
            Ok(None) => verdicts[index] = Some(Verdict::Ignored),
            Err(refusal) => verdicts[index] = Some(Verdict::Refused(refusal)),
        }
    }
    let bare: Vec<_> =
        candidates.iter().filter(|bare| bare.event.org.is_none()).map(|bare| bare.event.chat_id()).collect();
    let chats = if bare.is_empty() { apply::Chats::default() } else { apply::route(connection, &bare).await? };
    let orgs: HashSet<Uuid> = candidates.iter().filter_map(|candidate| candidate.event.org).collect();
    let known = apply::find_organizations(connection, &orgs).await?;
    candidates.retain_mut(|candidate| {
        let chat = candidate.event.chat_id();
        let refusal = match candidate.event.org {
            Some(org) if known.contains(&org) => return true,
            Some(org) => Refusal::unknown_org(org),
            None => match chats.get(&chat) {
                Some(orgs) => {
                    candidate.orgs.clone_from(orgs);
                    return true;
                }
                None => Refusal::unmapped_chat(chat),
            },
        };
        verdicts[candidate.index] = Some(Verdict::Refused(refusal));
        false
    });
    Ok(Looked { verdicts, candidates })
}

/// Whether a process of its own gets over decoding a body.
async fn survives(body: &[u8]) -> bool {
    let Ok(program) = env::current_exe() else { return false };
    let mut command = Command::new(program);
    command
        .args(["dead", "decode"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let Ok(mut child) = command.spawn() else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        // A process that ends early does not read.
        let _ = stdin.write_all(body).await;
    }
    child.wait().await.is_ok_and(|status| status.success())
}

/// Decodes a body and forgets it: to be done in a process of its own, which perhaps does not survive it.
pub fn decode_alone(body: &[u8]) {
    crate::sabotage::look_at(body);
    let limits = Limits { max_body_bytes: usize::MAX, max_clock_skew: std::time::Duration::ZERO, store_text: true };
    let _ = decode::decode(body, &limits, clock::now());
}

/// As [`look`], and keeps everybody else out of the organizations until the end of the transaction.
pub(super) async fn look_alone(
    transaction: &mut PgConnection,
    letters: &[Letter],
    limits: &Limits,
) -> Result<Looked, Fault> {
    let looked = look(transaction, letters, limits).await?;
    let orgs = looked.candidates.iter().flat_map(|candidate| candidate.orgs.iter().copied());
    apply::lock_out(transaction, orgs).await?;
    Ok(looked)
}

/// What each letter changes if it is applied after those before it, within a transaction that the caller takes back and that
/// began with [`look_alone`].
pub(super) async fn judge(
    transaction: &mut PgConnection,
    Looked { mut verdicts, candidates }: Looked,
) -> Result<(Vec<Verdict>, Vec<Candidate>), Fault> {
    judge_candidates(transaction, &candidates, &mut verdicts).await?;
    let verdicts = verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::AlreadyApplied));
    Ok((verdicts.collect(), candidates))
}

/// Applies candidates one after the other, as far as it matters. Those that are refused leave no trace.
async fn judge_candidates(
    transaction: &mut PgConnection,
    candidates: &[Candidate],
    verdicts: &mut [Option<Verdict>],
) -> Result<(), Fault> {
    let mut ranges = vec![candidates];
    while let Some(range) = ranges.pop() {
        let Some((first, others)) = range.split_first() else { continue };
        let is_each_new = !others.is_empty() && is_each_new(transaction, range).await?;
        let before = written(transaction).await?;
        let mut savepoint = transaction.begin().await?;
        let facts: Vec<_> = range.iter().flat_map(Candidate::facts).collect();
        let outcome = match apply_alone(&mut savepoint, &facts).await {
            Ok(()) if written(&mut savepoint).await? == before => Ok(Some(Verdict::AlreadyApplied)),
            Ok(()) if others.is_empty() || is_each_new => Ok(Some(Verdict::Applied)),
            // Some of them change nothing; which, only they themselves can tell.
            Ok(()) => Ok(None),
            Err(Fault::Data(rejection)) if others.is_empty() => Ok(Some(Verdict::Refused(Refusal::from(&rejection)))),
            Err(Fault::Data(_) | Fault::Timeout(_)) if !others.is_empty() => Ok(None),
            Err(fault) => Err(fault),
        };
        match outcome? {
            Some(Verdict::Refused(refusal)) => {
                savepoint.rollback().await?;
                verdicts[first.index] = Some(Verdict::Refused(refusal));
            }
            Some(verdict) => {
                savepoint.commit().await?;
                for candidate in range {
                    verdicts[candidate.index] = Some(verdict.clone());
                }
            }
            None => {
                savepoint.rollback().await?;
                let (left, right) = range.split_at(range.len() / 2);
                ranges.extend([right, left]);
            }
        }
    }
    Ok(())
}

/// Applies facts of organizations that are locked.
///
/// A merge that waits for them keeps even the holder of the lock from having it a second time: then nothing was written, which
/// must not look like nothing to write.
pub(super) async fn apply_alone(transaction: &mut PgConnection, facts: &[(Uuid, &Fact<'_>)]) -> Result<(), Fault> {
    let applied = apply::apply(transaction, facts).await?;
    if applied.busy.is_empty() {
        return Ok(());
    }
    Err(Fault::Conflict("people are being merged".into()))
}

/// Whether each of them has an activity of its own that is not there yet, so that it surely changes rows.
async fn is_each_new(connection: &mut PgConnection, range: &[Candidate]) -> Result<bool, Fault> {
    let keys: BTreeSet<_> = range.iter().flat_map(Candidate::activity).collect();
    let mut seen = apply::find_activity(connection, &keys).await?;
    Ok(range.iter().all(|candidate| candidate.activity().filter(|key| seen.insert(*key)).count() > 0))
}

/// Whether all that the candidates say is in the rows. Does not wait for anybody and keeps nobody waiting long.
pub(super) async fn is_in_the_rows(transaction: &mut PgConnection, candidates: &[&Candidate]) -> Result<bool, Fault> {
    let keys: BTreeSet<_> = candidates.iter().flat_map(|candidate| candidate.activity()).collect();
    if apply::find_activity(transaction, &keys).await?.len() < keys.len() {
        return Ok(false);
    }
    let before = written(transaction).await?;
    let facts: Vec<_> = candidates.iter().flat_map(|candidate| candidate.facts()).collect();
    let applied = apply::apply(transaction, &facts).await?;
    Ok(applied.busy.is_empty() && applied.unknown.is_empty() && written(transaction).await? == before)
}

/// Rows that this connection's transactions inserted and updated so far, by table, those of broken savepoints included:
/// only differences mean something.
pub(super) async fn written(connection: &mut PgConnection) -> Result<BTreeMap<String, (i64, i64)>, Fault> {
    let rows: Vec<(String, i64, i64, bool)> =
        sqlx::query_as(include_str!("sql/count_written.sql")).fetch_all(connection).await?;
    if rows.iter().any(|(.., is_counted)| !is_counted) {
        return Err(Fault::Setup("track_counts is off, so that a trial cannot tell what it changes".into()));
    }
    Ok(rows.into_iter().map(|(table, inserted, updated, _)| (table, (inserted, updated))).collect())
}
