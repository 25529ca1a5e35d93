//! Exchanges and queues: the names, and their declaration, which is idempotent.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use futures_util::{
    future::{join_all, try_join_all},
    join, try_join,
};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind, Queue,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{Frames, close, connect_with, describe, in_time};
use crate::settings::{self, MAX_PARTITIONS};

/// Far above any count that is reached: the broker must never drop an event, and 0 or -1 mean different
/// things to different versions.
const DELIVERY_LIMIT: i32 = 1_000_000_000;

/// How long the broker waits for a quorum queue's counts before it says 0.
const COUNTING: Duration = Duration::from_millis(250);
/// How often a queue is asked that does not count in time.
const COUNTS: u32 = 20;
/// After so many it counts as far away.
const SOME: u32 = 4;

/// What a queue's binding to the events exchange says: all of them.
pub(super) const ALL: &str = "#";
/// The routing key of a binding to a hash exchange is its weight.
pub(super) const WEIGHT: &str = "10";

/// The names, and in how many partitions the events are split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
    partitions: u16,
    /// Queues of partitions beyond those, which another setting left behind or still uses.
    surplus: u16,
}

impl Topology {
    /// The topology that the settings ask for.
    #[must_use]
    pub fn new(settings: &settings::Broker) -> Self {
        Self { prefix: settings.prefix.clone(), partitions: settings.partitions, surplus: 0 }
    }

    /// The same with what the broker has beyond it.
    pub(super) async fn with_surplus(mut self, connection: &Connection) -> lapin::Result<Self> {
        self.surplus = 0;
        while self.partitions + self.surplus < MAX_PARTITIONS {
            let next = self.event_queue(self.partitions + self.surplus);
            if find(connection, &next).await?.is_none() {
                break;
            }
            self.surplus += 1;
        }
        Ok(self)
    }

    /// In how many partitions events are split.
    #[must_use]
    pub const fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Where producers publish.
    #[must_use]
    pub fn events_exchange(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// Where refused events are published.
    #[must_use]
    pub fn dead_exchange(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// Where refused events wait for the archivist.
    #[must_use]
    pub fn dead_queue(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The queues of events, one per partition; those of surplus ones too, which nobody else may empty.
    pub fn event_queues(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.partitions + self.surplus).map(|partition| self.event_queue(partition))
    }

    /// The queues beyond the setting that were found.
    pub fn surplus_queues(&self) -> impl Iterator<Item = String> + '_ {
        (self.partitions..self.partitions + self.surplus).map(|partition| self.event_queue(partition))
    }

    fn event_queue(&self, partition: u16) -> String {
        format!("{}.events.{partition}", self.prefix)
    }

    /// All exchanges.
    #[must_use]
    pub fn exchanges(&self) -> [String; 3] {
        [self.events_exchange(), self.partitions_exchange(), self.dead_exchange()]
    }

    pub(super) fn partitions_exchange(&self) -> String {
        format!("{}.partitions", self.prefix)
    }
}

/// Declares everything and returns what is there: one partition where the broker has no consistent-hash
/// exchange, and more queues than the setting says where another setting was used before.
///
/// # Errors
///
/// When the broker is away, or a queue or exchange exists with other arguments; the text says what to do.
pub async fn declare(settings: &settings::Broker) -> anyhow::Result<Topology> {
    let (connection, topology) = connect_and_declare(settings, "rollcall topology", Frames::Short).await?;
    close(connection).await;
    Ok(topology)
}

/// As [`declare`], and returns the connection too, which the broker lists under `name`.
///
/// # Errors
///
/// As for [`declare`].
pub async fn connect_and_declare(
    settings: &settings::Broker,
    name: &str,
    frames: Frames,
) -> anyhow::Result<(Connection, Topology)> {
    let topology = Topology::new(settings);
    let declared = match try_declare(settings, name, frames, &topology).await {
        Err(error) if topology.partitions > 1 && is_unknown_exchange_type(&error) => {
            tracing::warn!(
                "the broker has no x-consistent-hash exchange: one partition instead of {}",
                topology.partitions
            );
            try_declare(settings, name, frames, &Topology { partitions: 1, ..topology }).await
        }
        declared => declared,
    };
    let (connection, topology) = declared.map_err(explain)?;
    if topology.surplus > 0 {
        tracing::warn!(
            broker.partitions = topology.partitions,
            surplus = topology.surplus,
            "there are more partition queues than the setting says, and they are emptied too: see rollcall partitions"
        );
    }
    Ok((connection, topology))
}

#[derive(Debug, thiserror::Error)]
enum DeclareError {
    #[error("{0:#}")]
    Connect(anyhow::Error),
    #[error("declaring exchanges and queues: {0}")]
    Late(#[from] io::Error),
    #[error("declaring {name}: {}", describe(.source))]
    Refused { name: String, source: lapin::Error },
}

/// Something exists that only a person can put right.
#[derive(Debug, thiserror::Error)]
#[error("{name} exists with other arguments: drain and delete it, or choose another broker.prefix")]
pub struct OtherArguments {
    name: String,
}

/// It ends the connection, and with it all that is declared at the same time.
fn is_unknown_exchange_type(error: &DeclareError) -> bool {
    matches!(error, DeclareError::Refused { source, .. }
        if matches!(source.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 503))
}

fn explain(error: DeclareError) -> anyhow::Error {
    match error {
        DeclareError::Connect(error) => error,
        late @ DeclareError::Late(_) => late.into(),
        DeclareError::Refused { name, source } => {
            let text = anyhow!(describe(&source));
            if matches!(source.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 406) {
                return text.context(OtherArguments { name });
            }
            text.context(format!("declaring {name}"))
        }
    }
}

/// On a new connection, because a refused declaration may take it down.
async fn try_declare(
    settings: &settings::Broker,
    name: &str,
    frames: Frames,
    topology: &Topology,
) -> Result<(Connection, Topology), DeclareError> {
    let connection = connect_with(settings, name, frames).await.map_err(DeclareError::Connect)?;
    let looking = async {
        let found = topology.clone().with_surplus(&connection).await;
        found.map_err(|source| DeclareError::Refused { name: "partitions".into(), source })
    };
    let declaring = async {
        let (declared, found) = join!(declare_all(&connection, topology), looking);
        declared.and(found)
    };
    match in_time(settings.connect_timeout, declaring).await {
        Ok(found) => Ok((connection, found)),
        Err(error) => {
            close(connection).await;
            Err(error)
        }
    }
}

/// A queue as it is, but for its counts: see [`count`]; `None` if there is none.
async fn find(connection: &Connection, queue: &str) -> lapin::Result<Option<Queue>> {
    Ok(look(connection, queue).await?.map(|look| look.found))
}

/// As [`find`], with counts that hold: a queue that does not count in time, which the broker shows as empty, is asked again.
pub(super) async fn count(connection: &Connection, queue: &str) -> lapin::Result<Option<Queue>> {
    let mut round_trip = Duration::MAX;
    for asked in 1..=COUNTS {
        let Some(Look { found, opening, answering }) = look(connection, queue).await? else { return Ok(None) };
        round_trip = round_trip.min(opening);
        // Where the broker is that far away, the fastest of some round trips tells.
        let is_far = asked >= SOME && answering < round_trip + COUNTING / 2;
        if found.message_count() > 0 || found.consumer_count() > 0 || answering < COUNTING || is_far {
            return Ok(Some(found));
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("{queue} does not count what it holds")).into())
}

/// What the broker says of a queue, and how long it took to open a channel and to answer.
struct Look {
    found: Queue,
    opening: Duration,
    answering: Duration,
}

/// On a channel of its own, because asking for one that is not there closes it.
async fn look(connection: &Connection, queue: &str) -> lapin::Result<Option<Look>> {
    let begun = Instant::now();
    let channel = connection.create_channel().await?;
    let opened = Instant::now();
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    match channel.queue_declare(queue.into(), options, FieldTable::default()).await {
        Ok(found) => {
            let answering = opened.elapsed();
            channel.close(200, "bye".into()).await?;
            Ok(Some(Look { found, opening: opened.duration_since(begun), answering }))
        }
        Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What needs others comes after them, the rest at once.
async fn declare_all(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    let [events, partitions, dead] = topology.exchanges();
    let is_split = topology.partitions > 1;
    let hash = is_split.then(|| (&partitions, ExchangeKind::Custom("x-consistent-hash".into())));
    let exchanges = hash.into_iter().chain([(&events, ExchangeKind::Topic), (&dead, ExchangeKind::Fanout)]);
    let exchanges = join_all(exchanges.map(|(name, kind)| exchange(connection, name, kind))).await;
    // The error of the first counts: the others, whose connection it has ended, say only that it is gone.
    exchanges.into_iter().collect::<Result<Vec<_>, _>>()?;
    let feeding = async { if is_split { feed(connection, &partitions, &events).await } else { Ok(()) } };
    let (exchange, key) = if is_split { (&partitions, WEIGHT) } else { (&events, ALL) };
    let queues = topology.event_queues().map(|queue| (queue, exchange, key));
    let queues = queues.chain([(topology.dead_queue(), &dead, "")]);
    let queues = try_join_all(queues.map(|(name, exchange, key)| queue(connection, name, exchange, key)));
    try_join!(feeding, queues).map(drop)
}

/// On a channel of its own, which a refusal closes; so do the following. To be kept until the others are declared: lapin
/// closes a channel that is dropped, and where the connection ends meanwhile, takes the failure of that for the reason.
async fn exchange(connection: &Connection, name: &str, kind: ExchangeKind) -> Result<Channel, DeclareError> {
    let declaring = async {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
        Ok(channel)
    };
    declaring.await.map_err(|source| DeclareError::Refused { name: format!("exchange {name}"), source })
}

/// An exchange gets all that another one does.
async fn feed(connection: &Connection, name: &str, from: &str) -> Result<(), DeclareError> {
    let binding = async {
        let channel = connection.create_channel().await?;
        let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
        channel.exchange_bind(name.into(), from.into(), ALL.into(), options, arguments).await
    };
    binding.await.map_err(|source| DeclareError::Refused { name: format!("exchange {name}"), source })
}

async fn queue(connection: &Connection, name: String, exchange: &str, key: &str) -> Result<(), DeclareError> {
    let declaring = async {
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.as_str().into(), options, arguments).await?;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(name.as_str().into(), exchange.into(), key.into(), options, arguments).await
    };
    declaring.await.map_err(|source| DeclareError::Refused { name: format!("queue {name}"), source })
}
