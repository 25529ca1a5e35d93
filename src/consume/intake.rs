use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context as Task, Poll},
    time::Duration,
};

use anyhow::{anyhow, bail};
use futures_util::{FutureExt as _, Stream as _, future::try_join_all};
use lapin::{
    Channel, Connection, Consumer, ErrorKind,
    message::Delivery as Message,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    protocol::{AMQPErrorKind, AMQPHardError},
    types::{AMQPValue, FieldTable},
};

use super::{DeadIntake, priority};
use crate::{
    broker::{self, Frames, Topology, describe, in_time},
    clock::Milliseconds,
    sabotage::{Bug, is_on},
    settings,
    settle::Ack,
};

/// Acks that are sent before their queues' logs are waited for: half of what a channel of the broker has under
/// way to a quorum queue. Of 100 at once, 35 counted when the disk was slow.
const ACK_GROUP: usize = 16;
/// Deliveries of one partition after which the others are looked at.
const MOST_IN_A_ROW: usize = 64;
/// Deliveries after which those that came meanwhile are taken over from the client.
const TAKE_OVER: usize = 64;
/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// One message as it came from a queue, not yet looked into.
#[derive(Debug)]
pub struct Delivery {
    /// Which of the intake's queues it came from.
    pub partition: usize,
    /// Counts from 1 in its partition.
    pub tag: u64,
    /// The exact bytes.
    pub body: Vec<u8>,
    /// As published.
    pub routing_key: String,
    /// Whether it may have been seen before.
    pub redelivered: bool,
    /// When it was published, if the message says so.
    pub published_at: Option<Milliseconds>,
    /// How often the broker says that it was redelivered; whoever publishes can set it on a first delivery.
    pub delivery_count: u64,
}

/// Why there is no message.
enum End {
    Error(lapin::Error),
    /// A partition has ended.
    One,
    /// All have.
    All,
}

/// A connection that only consumes and acks, never publishes. The first error ends it.
pub struct Intake {
    connection: Connection,
    partitions: Vec<Partition>,
    /// The partition that is looked at first, and how many deliveries it had in a row.
    turn: usize,
    in_a_row: usize,
    /// What was taken over from the client, which uses four times as much memory for each, and keeps it.
    ready: VecDeque<Delivery>,
    /// Deliveries until more is taken over.
    countdown: usize,
    /// What comes after those that are ready.
    end: Option<End>,
}

/// A queue and the channel that consumes from it.
struct Partition {
    channel: Channel,
    queue: String,
    tag: String,
    /// `None` when it has ended, since it must not be polled then.
    consumer: Option<Consumer>,
}

/// A connection by which everything was declared, and from which nothing is consumed yet.
pub struct Connected {
    connection: Connection,
    /// What is there.
    pub topology: Topology,
}

impl Connected {
    /// Connects, under a name for operators, and declares.
    ///
    /// # Errors
    ///
    /// As for [`broker::declare`].
    pub async fn new(settings: &settings::Broker, name: &str, frames: Frames) -> anyhow::Result<Self> {
        let (connection, topology) = broker::connect_and_declare(settings, name, frames).await?;
        Ok(Self { connection, topology })
    }
}

impl Intake {
    /// Consumes from every partition, with `prefetch` unsettled deliveries of each.
    ///
    /// # Errors
    ///
    /// When the connection is gone or a queue is not there.
    pub async fn open(
        Connected { connection, topology }: Connected,
        settings: &settings::Broker,
        replica: &str,
    ) -> anyhow::Result<Self> {
        let consumers = topology.event_queues().enumerate().map(|(partition, queue)| {
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongInt(priority(replica, partition)));
            // Tells operators which replica it is.
            (format!("{queue}@{replica}"), queue, arguments)
        });
        Self::start(connection, settings.prefetch, consumers.collect(), settings.connect_timeout).await
    }

    /// Consumes from the dead queue.
    ///
    /// # Errors
    ///
    /// When the connection is gone or the queue is not there.
    pub async fn open_dead(
        Connected { connection, topology }: Connected,
        settings: &settings::Broker,
        prefetch: u16,
    ) -> anyhow::Result<DeadIntake> {
        let queue = topology.dead_queue();
        let consumers = vec![(queue.clone(), queue, FieldTable::default())];
        Ok(DeadIntake(Self::start(connection, prefetch, consumers, settings.connect_timeout).await?))
    }

    /// Starts consumers, each given by its tag, its queue and its arguments. All channels are there before anything is
    /// delivered: of a connection that is cut meanwhile, a channel would be waited for in vain.
    async fn start(
        connection: Connection,
        prefetch: u16,
        consumers: Vec<(String, String, FieldTable)>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let opening = consumers.iter().map(async |_| {
            let channel = connection.create_channel().await?;
            // Before consuming: lapin buffers without bound what the broker sends.
            channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            lapin::Result::Ok(channel)
        });
        let channels = in_time(patience, try_join_all(opening)).await;
        let channels = channels.map_err(|error| anyhow!(describe(&error)).context("opening channels"))?;
        let starting = channels.into_iter().zip(consumers).map(async |(channel, (tag, queue, arguments))| {
            let options = BasicConsumeOptions::default();
            let consumer = channel.basic_consume(queue.as_str().into(), tag.into(), options, arguments).await?;
            let tag = consumer.tag().to_string();
            lapin::Result::Ok(Partition { channel, queue, tag, consumer: Some(consumer) })
        });
        let partitions = in_time(patience, try_join_all(starting)).await.map_err(|error| explain(&error))?;
        let ready = VecDeque::new();
        Ok(Self { connection, partitions, turn: 0, in_a_row: 0, ready, countdown: 0, end: None })
    }

    /// The next delivery.
    ///
    /// # Errors
    ///
    /// When nothing more will come: the connection or channel is closed, a queue was deleted, a consumer
    /// was cancelled. Deliveries that were not acked by then come again, to whoever consumes next.
    pub async fn next(&mut self) -> anyhow::Result<Delivery> {
        if let Some(delivery) = self.next_ready() {
            return Ok(delivery);
        }
        self.next_as(Self::read).await
    }

    fn next_ready(&mut self) -> Option<Delivery> {
        if self.countdown == 0 {
            self.countdown = TAKE_OVER;
            self.take_over();
        }
        self.countdown -= 1;
        self.ready.pop_front()
    }

    fn take_over(&mut self) {
        while let Some(arrival) = self.arrival(Self::read).now_or_never() {
            match arrival {
                Ok(delivery) => self.ready.push_back(delivery),
                Err(end) => {
                    self.end = Some(end);
                    break;
                }
            }
        }
    }

    /// The next message, as `read` makes it from its partition and the client's delivery, which is too large to be passed on.
    pub(super) async fn next_as<T>(&mut self, read: impl Fn(usize, Message) -> T) -> anyhow::Result<T> {
        match self.arrival(read).await {
            Ok(arrived) => Ok(arrived),
            Err(End::Error(error)) => Err(explain(&error)),
            Err(End::One) if is_on(Bug::EndUnnoticed) => std::future::pending().await,
            Err(End::One | End::All) => bail!("the broker cancelled a consumer: was a queue deleted?"),
        }
    }

    async fn arrival<T>(&mut self, read: impl Fn(usize, Message) -> T) -> Result<T, End> {
        match self.end.take() {
            Some(end) => Err(end),
            None => poll_fn(|task| self.poll_arrival(task, &read)).await,
        }
    }

    /// Stays with a partition while more of it is there, but not for ever.
    fn poll_arrival<T>(&mut self, task: &mut Task<'_>, read: impl Fn(usize, Message) -> T) -> Poll<Result<T, End>> {
        let count = self.partitions.len();
        let mut is_over = true;
        // Once more for the first, which may have been passed over.
        for _ in 0..=count {
            let at = self.turn;
            let Some(partition) = self.partitions.get_mut(at) else { break };
            if let Some(consumer) = &mut partition.consumer {
                if self.in_a_row < MOST_IN_A_ROW
                    && let Poll::Ready(arrived) = Pin::new(consumer).poll_next(task)
                {
                    self.in_a_row += 1;
                    return Poll::Ready(match arrived {
                        Some(Ok(message)) => Ok(read(at, message)),
                        Some(Err(error)) => Err(End::Error(error)),
                        None => {
                            partition.consumer = None;
                            Err(End::One)
                        }
                    });
                }
                is_over = false;
            }
            self.turn = (at + 1) % count;
            self.in_a_row = 0;
        }
        if is_over { Poll::Ready(Err(End::All)) } else { Poll::Pending }
    }

    pub(super) fn read(partition: usize, message: Message) -> Delivery {
        Delivery {
            partition,
            published_at: broker::published_at(&message.properties),
            tag: message.delivery_tag,
            routing_key: broker::sound(message.routing_key.into()),
            redelivered: message.redelivered,
            delivery_count: broker::delivery_count(message.properties.headers().as_ref()),
            body: message.data,
        }
    }

    /// Sends an ack, in order with those before.
    ///
    /// # Errors
    ///
    /// When the channel is gone; what it had delivered comes again.
    pub async fn ack(&mut self, ack: Ack) -> anyhow::Result<()> {
        let options = BasicAckOptions { multiple: ack.multiple };
        let channel = &self.partitions[ack.partition].channel;
        channel.basic_ack(ack.tag, options).await.map_err(|error| anyhow!(describe(&error)).context("acking"))
    }

    /// What the broker had sent before it was told to send nothing more; `None` when that is all.
    pub async fn next_left(&mut self) -> Option<Delivery> {
        if let Some(delivery) = self.next_ready() {
            return Some(delivery);
        }
        loop {
            match self.arrival(Self::read).await {
                Ok(delivery) => return Some(delivery),
                // The others may hold more.
                Err(End::One) => {}
                Err(End::All | End::Error(_)) => return None,
            }
        }
    }

    /// Asks the broker to send nothing more.
    ///
    /// # Errors
    ///
    /// When a channel is gone, or the broker does not answer in time.
    pub async fn cancel(&mut self) -> anyhow::Result<()> {
        let cancelling = self.partitions.iter().map(|Partition { channel, tag, .. }| {
            channel.basic_cancel(tag.as_str().into(), BasicCancelOptions::default())
        });
        let cancelled = in_time(ANSWER, try_join_all(cancelling)).await;
        cancelled.map(drop).map_err(|error| anyhow!(describe(&error)).context("cancelling consumers"))
    }

    /// Sends the last acks, those of a partition together, and waits until they count: those that are still on their way when
    /// their channel closes are lost, and their deliveries come again.
    ///
    /// # Errors
    ///
    /// When the channel is gone, or the broker does not answer in time.
    pub async fn ack_surely(&mut self, acks: &[Ack]) -> anyhow::Result<()> {
        // One is a single command of its queue. Of more, the broker's channel holds back what
        // is above its limit of commands that are not in the queue's log yet.
        for acks in acks.chunk_by(|one, other| one.partition == other.partition) {
            for group in acks.chunks(ACK_GROUP) {
                for ack in group {
                    self.ack(*ack).await?;
                }
                if acks.len() > 1 {
                    self.partitions[acks[0].partition].wait_for_log().await?;
                }
            }
        }
        self.flush().await
    }

    /// Waits until the broker has read all acks. A few of them then reach the queues' logs even if the connection
    /// ends; of many, see [`Self::ack_surely`].
    ///
    /// # Errors
    ///
    /// When the channel is gone, or the broker does not answer in time.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        for Partition { channel, .. } in &self.partitions {
            // Counts for consumers to come, of which there are none.
            answered(channel.basic_qos(1, BasicQosOptions { global: false })).await?;
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) {
        broker::close(self.connection).await;
    }
}

impl Partition {
    /// A get is a command in the queue's log too: its answer comes after the acks before it are applied. A
    /// message that it gets goes back with the channel.
    async fn wait_for_log(&self) -> anyhow::Result<()> {
        answered(self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default())).await
    }
}

/// A message that cannot be delivered over this connection; over one of [`Frames::Long`], only a person can put it right.
#[derive(Debug, thiserror::Error)]
#[error(
    "a message has headers as long as a frame; raise the broker's frame_max, which needs no restart: \
     rabbitmqctl eval 'application:set_env(rabbit, frame_max, 1048576).'"
)]
pub struct LongHeaders;

/// Makes frames longer if that is what an error calls for; whether it can help.
pub fn lengthen(frames: &mut Frames, error: &anyhow::Error) -> bool {
    let can_help = *frames == Frames::Short && error.is::<LongHeaders>();
    if can_help {
        tracing::info!("a message has long headers: connecting again, for longer frames");
        *frames = Frames::Long;
    }
    can_help
}

/// Why consuming failed, with what to do where that is known.
fn explain(error: &lapin::Error) -> anyhow::Error {
    let told = anyhow!(describe(error)).context("consuming");
    let ErrorKind::ProtocolError(error) = error.kind() else { return told };
    match error.kind() {
        // A header table is one frame, and the broker sends it even if it is longer than it agreed to: the connection ends,
        // again and again, until longer frames are agreed to. To those of a redelivered message it adds, so that they may
        // fit into none.
        AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR) => told.context(LongHeaders),
        // As when replicas start together for the first time.
        AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR) => told
            .context("a queue that was declared a moment ago may have no leader yet; else the broker's log says why"),
        _ => told,
    }
}

async fn answered<T>(asking: impl Future<Output = lapin::Result<T>>) -> anyhow::Result<()> {
    let answer = in_time(ANSWER, asking).await;
    answer.map(drop).map_err(|error| anyhow!(describe(&error)).context("waiting for the last acks"))
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn an_internal_error_of_the_broker_is_explained() {
        let error = AMQPError::new(AMQPHardError::INTERNALERROR.into(), "INTERNAL_ERROR".into());
        let told = format!("{:#}", explain(&ErrorKind::ProtocolError(error).into()));
        assert!(told.contains("no leader yet") && told.ends_with("consuming: 541 INTERNAL_ERROR"), "{told}");
    }
}
