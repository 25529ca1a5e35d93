//! A look at the queues that changes nothing.

use anyhow::anyhow;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};

use super::{Topology, close, connect, describe, in_time, topology::count};
use crate::settings;

/// A queue as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages that wait to be delivered; `None` if there is no such queue.
    pub messages: Option<u32>,
    /// How many consume from it.
    pub consumers: u32,
}

/// The queues of the topology, surplus ones too, the dead one last.
///
/// # Errors
///
/// When the broker is away.
pub async fn inspect(settings: &settings::Broker) -> anyhow::Result<Vec<Queue>> {
    let connection = connect(settings, "rollcall inspect").await?;
    let looking = async {
        let finding = Topology::new(settings).with_surplus(&connection);
        let topology = in_time(settings.connect_timeout, finding).await?;
        let mut queues = Vec::new();
        for name in topology.event_queues().chain([topology.dead_queue()]) {
            let found = in_time(settings.connect_timeout, count(&connection, &name)).await?;
            let (messages, consumers) =
                found.map_or((None, 0), |queue| (Some(queue.message_count()), queue.consumer_count()));
            queues.push(Queue { name, messages, consumers });
        }
        Ok(queues)
    };
    let queues =
        looking.await.map_err(|error: lapin::Error| anyhow!(describe(&error)).context("looking at the queues"));
    close(connection).await;
    queues
}

/// Deletes the exchanges and queues of the topology with all that they hold.
///
/// # Errors
///
/// When the broker is away.
pub async fn remove(settings: &settings::Broker) -> anyhow::Result<()> {
    let connection = connect(settings, "rollcall remove").await?;
    let removing = async {
        let topology = Topology::new(settings).with_surplus(&connection).await?;
        let channel = connection.create_channel().await?;
        for queue in topology.event_queues().chain([topology.dead_queue()]) {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in topology.exchanges() {
            channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        Ok(())
    };
    let removed = in_time(settings.connect_timeout, removing).await;
    close(connection).await;
    removed.map_err(|error| anyhow!(describe(&error)).context("removing the topology"))
}
