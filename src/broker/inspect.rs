//! A look at the queues that changes nothing.

use anyhow::anyhow;
use lapin::{
    ErrorKind,
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};

use super::{Topology, close, connect, describe};
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

/// The queues of the topology, the dead one last.
///
/// # Errors
///
/// When the broker is away.
pub async fn inspect(settings: &settings::Broker) -> anyhow::Result<Vec<Queue>> {
    let topology = Topology::new(settings);
    let connection = connect(settings, "rollcall inspect").await?;
    let mut queues = Vec::new();
    for name in topology.event_queues().chain([topology.dead_queue()]) {
        // A channel each, because asking for a queue that is not there closes it.
        let channel = connection.create_channel().await.map_err(|error| anyhow!(describe(&error)))?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let found = channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await;
        queues.push(match found {
            Ok(queue) => Queue { name, messages: Some(queue.message_count()), consumers: queue.consumer_count() },
            Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404) => {
                Queue { name, messages: None, consumers: 0 }
            }
            Err(error) => return Err(anyhow!(describe(&error)).context(format!("looking at {name}"))),
        });
    }
    close(connection).await;
    Ok(queues)
}

/// Deletes the exchanges and queues of the topology with all that they hold.
///
/// # Errors
///
/// When the broker is away.
pub async fn remove(settings: &settings::Broker) -> anyhow::Result<()> {
    let topology = Topology::new(settings);
    let connection = connect(settings, "rollcall remove").await?;
    let removing = async {
        let channel = connection.create_channel().await?;
        for queue in topology.event_queues().chain([topology.dead_queue()]) {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in topology.exchanges() {
            channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await?;
        }
        Ok(())
    };
    let removed =
        removing.await.map_err(|error: lapin::Error| anyhow!(describe(&error)).context("removing the topology"));
    close(connection).await;
    removed
}
