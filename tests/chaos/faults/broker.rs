//! Brokers that restart, run short and lose queues.

use std::time::{Duration, Instant};

use lapin::{Channel, Connection, ConnectionProperties, options::QueueDeleteOptions, types::FieldTable};
use rollcall::{broker::Topology, servers::RabbitMqStop};

use super::{Fault, Reach, WHILE, fault, signal};
use crate::scene::Scene;

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Restart(RabbitMqStop),
    Freeze,
    CloseConnections,
    /// For a while, by these arguments of rabbitmqctl.
    Alarm {
        on: [&'static str; 2],
        off: [&'static str; 2],
    },
    ConsumerTimeout,
    /// The user's password is another one for a while.
    Password,
    /// A queue that is empty is deleted.
    DeleteEvents,
    DeleteDead,
    /// The dead queue is no longer bound: dead letters cannot be routed.
    Unbind,
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Broker(act));
    let own = |name, act| Fault { reach: Reach::Servers, ..named(name, act) };
    let own_in_halves = |name, act| Fault { in_halves: true, ..own(name, act) };
    vec![
        Fault { in_halves: true, ..named("broker: an empty queue of events is deleted", Act::DeleteEvents) },
        Fault { in_halves: true, ..named("broker: the empty dead queue is deleted", Act::DeleteDead) },
        named("broker: the dead queue is unbound", Act::Unbind),
        own_in_halves("broker: restarted", Act::Restart(RabbitMqStop::Graceful)),
        own_in_halves("broker: SIGKILL and started", Act::Restart(RabbitMqStop::Kill)),
        own("broker: frozen for 3 s", Act::Freeze),
        own_in_halves("broker: all connections closed by an operator", Act::CloseConnections),
        own_in_halves(
            "broker: memory alarm",
            Act::Alarm {
                on: ["set_vm_memory_high_watermark", "0.00001"],
                off: ["set_vm_memory_high_watermark", "0.4"],
            },
        ),
        own_in_halves(
            "broker: disk alarm",
            Act::Alarm { on: ["set_disk_free_limit", "100000GB"], off: ["set_disk_free_limit", "50MB"] },
        ),
        own_in_halves("broker: the user's password is changed and set back", Act::Password),
        own_in_halves("broker: consumer timeout", Act::ConsumerTimeout),
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::Restart(how) => scene.strike(1, async |scene| restart(scene, how).await).await,
            Self::Freeze => scene.strike(1, freeze).await,
            Self::CloseConnections => {
                let close = async |scene: &mut Scene| {
                    scene.publish_rest();
                    control(scene, ["close_all_connections", "chaos"]).await
                };
                scene.strike(1, close).await
            }
            Self::Alarm { on, off } => {
                let alarm = async |scene: &mut Scene| {
                    control(scene, on).await?;
                    scene.publish_rest();
                    tokio::time::sleep(WHILE).await;
                    control(scene, off).await
                };
                scene.strike(1, alarm).await
            }
            Self::Password => scene.strike(1, change_password).await,
            Self::ConsumerTimeout => consumer_timeout(scene).await,
            Self::DeleteEvents | Self::DeleteDead => delete(scene, self).await,
            Self::Unbind => unbind(scene).await,
        }
    }
}

async fn restart(scene: &mut Scene, how: RabbitMqStop) -> Result<(), String> {
    // A new quorum queue's name is written down only after half a second without other new ones; killed before,
    // RabbitMQ forgets the queue and all that it confirmed.
    tokio::time::sleep(Duration::from_secs(2).saturating_sub(scene.age())).await;
    scene.publish_rest();
    scene.progress().await?;
    let restarting = scene.with_servers(move |servers| {
        servers.stop_rabbitmq(how)?;
        servers.start_rabbitmq()
    });
    restarting.await
}

async fn freeze(scene: &mut Scene) -> Result<(), String> {
    let pid = scene.with_servers(|servers| Ok(servers.rabbitmq_pid())).await?;
    signal("STOP", pid);
    tokio::time::sleep(Duration::from_secs(3)).await;
    signal("CONT", pid);
    Ok(())
}

async fn control(scene: &Scene, arguments: [&'static str; 2]) -> Result<(), String> {
    scene.with_servers(move |servers| servers.rabbitmqctl(&arguments).map(drop)).await
}

async fn change_password(scene: &mut Scene) -> Result<(), String> {
    scene.publish_rest();
    let url = scene.place.settings.broker.url.expose();
    let account = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("an account").0;
    let (user, password) = account.split_once(':').expect("a password");
    let (user, password) = (user.to_owned(), password.to_owned());
    let set = async |password: String| {
        let user = user.clone();
        scene.with_servers(move |servers| servers.rabbitmqctl(&["change_password", &user, &password]).map(drop)).await
    };
    set("another".into()).await?;
    let closed = control(scene, ["close_all_connections", "chaos"]).await;
    let refused = scene.told("ACCESS_REFUSED").await;
    set(password).await.and(closed).and(refused)
}

async fn consumer_timeout(scene: &mut Scene) -> Result<(), String> {
    const SHORT: &str =
        "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 500).";
    const USUAL: &str = "application:set_env(rabbit, consumer_timeout, 1800000), application:set_env(rabbit, channel_tick_interval, 60000).";
    scene.wanted = 1;
    control(scene, ["eval", SHORT]).await?;
    // Channels read the interval when they open.
    scene.replace(0).await;
    scene.publish_rest();
    scene.progress().await?;
    scene.database.swallow(true);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    scene.database.swallow(false);
    let recovered = scene.recovered(Instant::now()).await;
    control(scene, ["eval", USUAL]).await?;
    recovered
}

async fn channel(scene: &Scene) -> (Connection, Channel) {
    let url = scene.place.settings.broker.url.expose();
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// What is in a deleted queue is lost by definition, so it must be empty.
async fn delete(scene: &mut Scene, act: Act) -> Result<(), String> {
    scene.wanted = 1;
    scene.emptied().await?;
    let topology = Topology::new(&scene.place.settings.broker);
    let queue = match act {
        Act::DeleteDead => topology.dead_queue(),
        _ => topology.event_queues().next().unwrap(),
    };
    let (connection, channel) = channel(scene).await;
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "bye".into()).await.unwrap();
    let since = Instant::now();
    // Who publishes to a deleted queue, or over a channel from before, is promised nothing.
    scene.queues_are_back().await?;
    scene.publish_rest();
    scene.recovered(since).await
}

async fn unbind(scene: &mut Scene) -> Result<(), String> {
    let topology = Topology::new(&scene.place.settings.broker);
    let (queue, exchange) = (topology.dead_queue(), topology.dead_exchange());
    let unbind = async |scene: &mut Scene| {
        let (connection, channel) = channel(scene).await;
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        channel.queue_unbind(queue, exchange, "".into(), FieldTable::default()).await.unwrap();
        connection.close(200, "bye".into()).await.unwrap();
        // Who publishes through outages binds the queue again, perhaps before a letter meets it unbound.
        let letter = scene.publish_to_letter();
        scene.until("a dead letter meets it", async || scene.detector.is_confirmed(&letter)).await
    };
    // The channel of the dead letters declares all when it opens, which is for the first of them.
    scene.until("a dead letter is confirmed", async || scene.detector.letters() > 0).await?;
    scene.strike(3, unbind).await
}
