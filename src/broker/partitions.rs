//! Another number of partitions, while producers publish and replicas consume.
//!
//! What routes to the new queues is there before anything else is taken away, so no event is ever without a queue;
//! an event that is routed twice in between counts once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use lapin::{
    Channel, Connection,
    options::{ExchangeDeleteOptions, ExchangeUnbindOptions, QueueDeleteOptions},
    types::FieldTable,
};

use super::{
    Management, Topology, close, connect, declare, describe, in_time,
    topology::{ALL, WEIGHT, count},
};
use crate::settings;

/// How long a queue must be seen empty. The broker's figures are two intervals of five seconds old at most, and what a
/// queue without bindings holds can only become less: twice that is certain.
const EMPTY_FOR: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Routes events to the partitions of the setting and to no others, and returns what is there then. Surplus queues keep
/// what they hold, and replicas empty them.
///
/// # Errors
///
/// When the broker is away or has no x-consistent-hash exchange; doing it again finishes it.
pub async fn apply(settings: &settings::Broker) -> anyhow::Result<Topology> {
    let topology = declare(settings).await?;
    anyhow::ensure!(
        topology.partitions() == settings.partitions,
        "the broker has no x-consistent-hash exchange, so there is one partition"
    );
    let connection = connect(settings, "rollcall partitions").await?;
    let unbound = in_time(settings.connect_timeout, unbind(&connection, &topology)).await;
    close(connection).await;
    unbound.map_err(|error| anyhow!(describe(&error))).context("unbinding what is surplus")?;
    Ok(topology)
}

/// Takes away every route that the number of partitions does not need; one that is not there is no error.
async fn unbind(connection: &Connection, topology: &Topology) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let (events, partitions) = (topology.events_exchange(), topology.partitions_exchange());
    let mut unhashed: Vec<_> = topology.surplus_queues().collect();
    let first = topology.event_queues().next().into_iter();
    if topology.partitions() > 1 {
        for queue in first {
            unbind_queue(&channel, &queue, &events, ALL).await?;
        }
    } else {
        let options = ExchangeUnbindOptions::default();
        let (hash, source) = (partitions.as_str().into(), events.as_str().into());
        channel.exchange_unbind(hash, source, ALL.into(), options, FieldTable::default()).await?;
        unhashed.extend(first);
    }
    for queue in unhashed {
        unbind_queue(&channel, &queue, &partitions, WEIGHT).await?;
    }
    Ok(())
}

async fn unbind_queue(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default()).await
}

/// What pruning tells while it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A queue still holds so many events, delivered ones included; `None` while the broker does not say.
    Holds(String, Option<u64>),
    /// A queue is deleted.
    Deleted(String),
}

/// Why surplus queues are still there.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// `broker.management_url` is not set: AMQP does not tell what is delivered and not settled.
    #[error("broker.management_url is not set, and AMQP does not tell whether a queue's last events are settled")]
    NoManagement,
    /// Something still routes there.
    #[error("events are still routed to {0}")]
    Bound(String),
    /// It was not empty in time.
    #[error("{0} was not empty within {1:?}")]
    NotEmpty(String, Duration),
    /// The broker is away, or says no.
    #[error("{0:#}")]
    Broker(anyhow::Error),
}

impl From<lapin::Error> for PruneError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(anyhow!(describe(&error)).context("pruning partitions"))
    }
}

/// Deletes surplus queues that nothing routes to, once they hold nothing, the last first; and the hash exchange where
/// there is one partition.
///
/// # Errors
///
/// See [`PruneError`]; what is deleted by then stays deleted, and doing it again goes on.
pub async fn prune(
    settings: &settings::Broker,
    patience: Duration,
    mut tell: impl FnMut(Progress),
) -> Result<(), PruneError> {
    let connection = connect(settings, "rollcall partitions").await.map_err(PruneError::Broker)?;
    let pruned = async {
        let looking = Topology::new(settings).with_surplus(&connection);
        let topology = in_time(settings.connect_timeout, looking).await?;
        let surplus: Vec<_> = topology.surplus_queues().collect();
        if !surplus.is_empty() {
            wait_until_empty(settings, &connection, &surplus, patience, &mut tell).await?;
        }
        let deleting = async {
            let channel = connection.create_channel().await?;
            for queue in surplus.into_iter().rev() {
                // Quorum queues take no if-empty.
                channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
                tell(Progress::Deleted(queue));
            }
            if topology.partitions() == 1 {
                let options = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
                channel.exchange_delete(topology.partitions_exchange().as_str().into(), options).await?;
            }
            lapin::Result::Ok(())
        };
        Ok(in_time(settings.connect_timeout, deleting).await?)
    };
    let pruned = pruned.await;
    close(connection).await;
    pruned
}

async fn wait_until_empty(
    settings: &settings::Broker,
    connection: &Connection,
    queues: &[String],
    patience: Duration,
    tell: &mut impl FnMut(Progress),
) -> Result<(), PruneError> {
    let started = Instant::now();
    let mut empty_since = None;
    let mut told = None;
    loop {
        let held = first_held(settings, connection, queues).await?;
        match held {
            None => {
                let since = *empty_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= EMPTY_FOR {
                    return Ok(());
                }
            }
            Some((queue, held)) => {
                empty_since = None;
                if started.elapsed() >= patience {
                    return Err(PruneError::NotEmpty(queue, patience));
                }
                let progress = Progress::Holds(queue, held);
                if told.as_ref() != Some(&progress) {
                    tell(progress.clone());
                    told = Some(progress);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The first queue that holds something, as far as the broker says.
async fn first_held(
    settings: &settings::Broker,
    connection: &Connection,
    queues: &[String],
) -> Result<Option<(String, Option<u64>)>, PruneError> {
    let management = Management::open(settings).await.map_err(PruneError::Broker)?;
    let mut management = management.ok_or(PruneError::NoManagement)?;
    for queue in queues {
        if management.is_bound(queue).await.map_err(PruneError::Broker)? {
            return Err(PruneError::Bound(queue.clone()));
        }
        let ready = in_time(settings.connect_timeout, count(connection, queue)).await?;
        let ready = ready.map_or(0, |queue| queue.message_count().into());
        let figures = management.figures(queue).await.map_err(PruneError::Broker)?;
        let held = figures.and_then(|figures| figures.messages).map(|messages| messages.max(ready));
        if held != Some(0) {
            return Ok(Some((queue.clone(), held)));
        }
    }
    Ok(None)
}
