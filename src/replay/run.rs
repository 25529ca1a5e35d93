//! A real replay: letters are published again in growing steps, each followed until it is known what became of it.

use std::{
    collections::HashMap,
    sync::mpsc,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{
    frozen::{DEADLY, Frozen, Open, Outcomes, State},
    preview::read,
    trial::{self, Candidate, Letter, Verdict},
};
use crate::{
    apply::Lane,
    broker::{self, Message, Outbox},
    database::{self, Fault},
    decode::Limits,
    letters::Chosen,
    settings::Settings,
};

/// Letters of the first steps; the last goes on. Whoever has mended the wrong thing sees it with the first letter.
const RAMP: [usize; 6] = [1, 2, 5, 20, 100, 500];
/// Between two looks at what became of a step, from the first to the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// What AMQP takes.
const MAX_ROUTING_KEY: usize = 255;

/// How to go on.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to go on after one that is refused again.
    pub keep_going: bool,
    /// Letters a second at most.
    pub rate: Option<u32>,
    /// How long to wait for what becomes of a step.
    pub patience: Duration,
}

/// What a replay tells while it works.
#[derive(Debug)]
pub enum Notice {
    /// So many more letters have an outcome.
    Done(u64),
    /// The broker is away, and tried again after this.
    Waiting(String, Duration),
}

/// Why a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every letter has an outcome.
    Finished,
    /// One was refused again.
    Refused,
    /// Nobody works published letters off.
    NoOutcome,
    /// Somebody wanted it.
    Interrupted,
}

/// A replay with its connections.
pub struct Replay<'a> {
    settings: &'a Settings,
    frozen: Frozen,
    /// Holds the lock, and claims letters.
    connection: PgConnection,
    lane: Lane,
    limits: Limits,
}

/// Freezes a set of letters.
///
/// # Errors
///
/// When the database is away.
pub async fn start<'a>(settings: &'a Settings, letters: &[Chosen], who: &str, note: &str) -> Result<Replay<'a>, Fault> {
    let mut connection = database::connect_plainly(&settings.database).await?;
    let frozen = Frozen::freeze(&mut connection, letters, who, note).await?;
    Ok(Replay::new(settings, frozen, connection))
}

/// Takes up a replay that was stopped or interrupted; `None` if there is none or it still runs.
///
/// # Errors
///
/// When the database is away.
pub async fn resume<'a>(settings: &'a Settings, id: i64, who: &str) -> Result<Option<Replay<'a>>, Fault> {
    let mut connection = database::connect_plainly(&settings.database).await?;
    let frozen = Frozen { id, who: who.to_owned() };
    let query = sqlx::query_scalar("select count(*) from dead_letter_replays where id = $1").bind(id);
    let count: i64 = query.fetch_one(&mut connection).await?;
    let is_mine = count == 1 && frozen.lock(&mut connection).await?;
    Ok(is_mine.then(|| Replay::new(settings, frozen, connection)))
}

/// A letter that is followed until it has an outcome.
struct Followed {
    id: i64,
    predicted: String,
    candidate: Option<Candidate>,
}

impl<'a> Replay<'a> {
    fn new(settings: &'a Settings, frozen: Frozen, connection: PgConnection) -> Self {
        let lane = Lane::new(settings.database.clone());
        Self { settings, frozen, connection, lane, limits: Limits::from(&settings.limits) }
    }

    /// Its id, for taking it up again.
    #[must_use]
    pub const fn id(&self) -> i64 {
        self.frozen.id
    }

    /// What became of all letters so far.
    ///
    /// # Errors
    ///
    /// When the database is away.
    pub async fn outcomes(&mut self) -> Result<Outcomes, Fault> {
        self.frozen.outcomes(&mut self.connection).await
    }

    /// Publishes step by step until nothing is left, or there is a reason to stop. After an error, or a kill, it can be
    /// taken up again.
    ///
    /// # Errors
    ///
    /// When the database or the broker cannot be used.
    pub async fn run(
        &mut self,
        options: &Options,
        stop: &CancellationToken,
        notify: impl Fn(Notice),
    ) -> anyhow::Result<Stopped> {
        broker::declare(&self.settings.broker).await?;
        let (problems, rejected) = mpsc::channel();
        let mut outbox = Outbox::new(self.settings, |notice| match notice {
            broker::Notice::Confirmed => {}
            broker::Notice::Rejected(id, problem) => drop(problems.send((id.cast_signed(), problem))),
            broker::Notice::Waiting(error, wait) => notify(Notice::Waiting(error, wait)),
        });
        let started = Instant::now();
        let (mut sent, mut ramp) = (0_u32, RAMP.iter());
        let mut size = 0;
        let mut stopped = self.follow_published(options, stop, &notify).await?;
        let stopped = loop {
            if let Some(stopped) = stopped {
                break stopped;
            }
            size = ramp.next().copied().unwrap_or(size);
            let step = options.rate.map_or(size, |rate| size.min(rate.max(1) as usize));
            let Some(step) = self.next_step(step).await? else { break Stopped::Finished };
            let before = sent;
            let followed = tokio::select! {
                followed = self.publish(step, &mut outbox, &rejected, stop, &notify) => followed?,
                // Only a broker that is away takes long. The step is taken back, and the outbox forgets it.
                () = gone(stop, options.patience) => return Ok(Stopped::Interrupted),
            };
            sent += u32::try_from(followed.len()).unwrap_or(u32::MAX);
            stopped = self.follow(followed, options, stop, &notify).await?;
            if stop.is_cancelled() {
                stopped = stopped.or(Some(Stopped::Interrupted));
            }
            if let Some(rate) = options.rate.filter(|_| stopped.is_none() && sent > before) {
                let due = started + Duration::from_secs_f64(f64::from(sent) / f64::from(rate.max(1)));
                let _ = stop.run_until_cancelled(tokio::time::sleep_until(due.into())).await;
            }
        };
        outbox.finish().await;
        Ok(stopped)
    }

    /// What an earlier run published and did not follow to its end.
    async fn follow_published(
        &mut self,
        options: &Options,
        stop: &CancellationToken,
        notify: &impl Fn(Notice),
    ) -> anyhow::Result<Option<Stopped>> {
        loop {
            let open = within_bytes(self.frozen.open(&mut self.connection, "published", RAMP[RAMP.len() - 1]).await?);
            if open.is_empty() {
                return Ok(None);
            }
            let letters =
                read(&mut self.connection, &open.iter().map(|open| open.letter_id).collect::<Vec<_>>()).await?;
            let looked = trial::look(&mut self.connection, &letters, &self.limits).await?;
            let mut candidates: HashMap<_, _> =
                looked.candidates.into_iter().map(|candidate| (letters[candidate.index].id, candidate)).collect();
            let followed = open.into_iter().map(|open| Followed {
                candidate: candidates.remove(&open.letter_id),
                id: open.letter_id,
                predicted: open.predicted,
            });
            if let Some(stopped) = self.follow(followed.collect(), options, stop, notify).await? {
                return Ok(Some(stopped));
            }
        }
    }

    async fn next_step(&mut self, size: usize) -> Result<Option<Vec<Open>>, Fault> {
        let open = within_bytes(self.frozen.open(&mut self.connection, "waiting", size).await?);
        Ok(Some(open).filter(|open| !open.is_empty()))
    }

    /// Publishes a step; its letters are locked meanwhile, so that of two replays only one publishes them. Returns those
    /// that are in a queue again.
    async fn publish<N: FnMut(broker::Notice)>(
        &mut self,
        step: Vec<Open>,
        outbox: &mut Outbox<'_, N>,
        rejected: &mpsc::Receiver<(i64, String)>,
        stop: &CancellationToken,
        notify: &impl Fn(Notice),
    ) -> anyhow::Result<Vec<Followed>> {
        let ids: Vec<_> = step.iter().map(|open| open.letter_id).collect();
        let frozen = &self.frozen;
        let mut transaction = self.connection.begin().await.map_err(Fault::from)?;
        let standing = Frozen::claim(&mut transaction, &ids).await?;
        let attempts: HashMap<_, _> = step.iter().map(|open| (open.letter_id, open.attempts)).collect();
        let mut ended = Vec::new();
        let mut ready = Vec::new();
        for letter in standing {
            if attempts.get(&letter.id) != Some(&letter.attempts) {
                ended.push((letter.id, State::Refused, letter.why));
            } else if letter.status == "parked" {
                ready.push(letter.id);
            } else {
                ended.push((letter.id, State::Skipped, format!("{} meanwhile", letter.status)));
            }
        }
        ready.sort_unstable();
        let letters = read(&mut transaction, &ready).await?;
        let (limits, retry) = (&self.limits, &self.settings.retry);
        let predicting = async |transaction: &mut PgConnection| {
            let looked = trial::look_alone(transaction, &letters, limits).await?;
            trial::judge(transaction, looked).await
        };
        let (verdicts, candidates) = trial::patiently(&mut self.lane, retry, predicting).await?;
        let mut published: Vec<Followed> = Vec::new();
        let mut candidates: HashMap<_, _> =
            candidates.into_iter().map(|candidate| (candidate.index, candidate)).collect();
        for (index, (letter, verdict)) in letters.into_iter().zip(verdicts).enumerate() {
            if stop.is_cancelled() {
                break;
            }
            if verdict == Verdict::Deadly {
                ended.push((letter.id, State::Skipped, DEADLY.into()));
                continue;
            }
            if letter.routing_key.len() > MAX_ROUTING_KEY {
                ended.push((letter.id, State::Skipped, "its routing key is longer than AMQP takes".into()));
                continue;
            }
            let Letter { id, routing_key, body, .. } = letter;
            outbox.send(Message { number: id.cast_unsigned(), routing_key, body }).await;
            published.push(Followed { id, predicted: verdict.name().into(), candidate: candidates.remove(&index) });
        }
        outbox.flush().await;
        for (id, problem) in rejected.try_iter() {
            published.retain(|followed| followed.id != id);
            ended.push((id, State::Skipped, problem));
        }
        let noted: Vec<_> = published.iter().map(|followed| (followed.id, followed.predicted.as_str())).collect();
        frozen.published(&mut transaction, &noted).await?;
        frozen.ended(&mut transaction, &ended).await?;
        transaction.commit().await.map_err(Fault::from)?;
        notify(Notice::Done(ended.len() as u64));
        Ok(published)
    }

    /// Waits until every letter has an outcome: it came back, or what it says is in the rows.
    async fn follow(
        &mut self,
        mut followed: Vec<Followed>,
        options: &Options,
        stop: &CancellationToken,
        notify: &impl Fn(Notice),
    ) -> anyhow::Result<Option<Stopped>> {
        let mut patience = Instant::now() + options.patience;
        let mut wait = LOOKS.0;
        let mut is_refused = false;
        loop {
            let ids: Vec<_> = followed.iter().map(|letter| letter.id).collect();
            let mut ended: Vec<_> = self
                .frozen
                .came_back(&mut self.connection, &ids)
                .await?
                .into_iter()
                .map(|letter| (letter.id, State::Refused, letter.why))
                .collect();
            is_refused |= !ended.is_empty();
            followed.retain(|letter| ended.iter().all(|(id, ..)| *id != letter.id));
            // Whatever is refused is still to come back; what changes nothing, nobody needs to wait for.
            let expected: Vec<_> = followed
                .iter()
                .filter(|letter| letter.predicted == "applied")
                .filter_map(|letter| letter.candidate.as_ref())
                .collect();
            let is_done = expected.is_empty() || self.are_in_the_rows(&expected).await?;
            let settled = |letter: &Followed| match letter.predicted.as_str() {
                "applied" if letter.candidate.is_some() => is_done.then_some(State::Applied),
                "already_applied" => Some(State::AlreadyApplied),
                "ignored" => Some(State::Ignored),
                _ => None,
            };
            ended.extend(followed.iter().filter_map(|letter| Some((letter.id, settled(letter)?, String::new()))));
            followed.retain(|letter| settled(letter).is_none());
            if !ended.is_empty() {
                self.frozen.ended(&mut self.connection, &ended).await?;
                notify(Notice::Done(ended.len() as u64));
                patience = Instant::now() + options.patience;
            }
            if followed.is_empty() {
                return Ok((is_refused && !options.keep_going).then_some(Stopped::Refused));
            }
            if Instant::now() > patience {
                return Ok(Some(Stopped::NoOutcome));
            }
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return Ok(Some(Stopped::Interrupted));
            }
            wait = (wait * 2).min(LOOKS.1);
        }
    }

    async fn are_in_the_rows(&mut self, candidates: &[&Candidate]) -> Result<bool, Fault> {
        match self.lane.trial(async |transaction| trial::is_in_the_rows(transaction, candidates).await).await {
            Err(Fault::Conflict(_) | Fault::Timeout(_)) => Ok(false),
            found => found,
        }
    }
}

/// As many as are held in memory at once.
fn within_bytes(mut open: Vec<Open>) -> Vec<Open> {
    open.truncate(trial::that_fit(open.iter().map(|open| open.bytes)));
    open
}

/// Somebody wanted to stop, and what was begun took longer than this since.
async fn gone(stop: &CancellationToken, patience: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(patience.min(Duration::from_secs(5))).await;
}
