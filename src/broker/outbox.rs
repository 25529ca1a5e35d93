//! Publishing many messages for certain: each is confirmed, over as many connections as it takes.

use std::{collections::VecDeque, time::Duration};

use super::{PublishError, Publisher, Topology, Unconfirmed, declare};
use crate::{retry::Backoff, settings::Settings};

/// Messages and bytes that are sent before their confirms are awaited.
const WINDOW: usize = 1000;
const WINDOW_BYTES: usize = 32 << 20;

/// Something to publish to the events exchange.
#[derive(Debug)]
pub struct Message {
    /// Tells it apart in notices.
    pub number: u64,
    /// As published.
    pub routing_key: String,
    /// The exact bytes.
    pub body: Vec<u8>,
}

/// What the outbox tells while it works.
#[derive(Debug)]
pub enum Notice {
    /// One more is in a queue.
    Confirmed,
    /// The broker will never take this one; it is left out.
    Rejected(u64, String),
    /// The broker is away, and tried again after this.
    Waiting(String, Duration),
}

/// Sends messages to the events exchange, and again after a broken connection. What had arrived then
/// arrives twice, which counts once.
pub struct Outbox<'a, N> {
    settings: &'a Settings,
    exchange: String,
    publisher: Option<Publisher>,
    window: VecDeque<(Message, Option<Unconfirmed>)>,
    bytes: usize,
    /// One at a time, until the message that the broker closed the channel over is found.
    is_careful: bool,
    backoff: Backoff,
    notify: N,
}

impl<'a, N: FnMut(Notice)> Outbox<'a, N> {
    /// Connects with the first message.
    pub fn new(settings: &'a Settings, notify: N) -> Self {
        Self {
            settings,
            exchange: Topology::new(&settings.broker).events_exchange(),
            publisher: None,
            window: VecDeque::new(),
            bytes: 0,
            is_careful: false,
            backoff: Backoff::new(&settings.retry),
            notify,
        }
    }

    /// Takes a message; waits while too much is unconfirmed.
    pub async fn send(&mut self, message: Message) {
        while self.window.len() >= WINDOW || self.bytes >= WINDOW_BYTES {
            self.confirm_first().await;
        }
        self.bytes += message.body.len();
        self.window.push_back((message, None));
        if let Some(publisher) = self.publisher.take_if(|_| !self.is_careful) {
            let last = self.window.len() - 1;
            self.send_from(publisher, last).await;
        }
    }

    /// Waits until all is published.
    pub async fn flush(&mut self) {
        while !self.window.is_empty() {
            self.confirm_first().await;
        }
    }

    /// Waits until all is published, and closes the connection.
    pub async fn finish(mut self) {
        self.flush().await;
        if let Some(publisher) = self.publisher {
            publisher.close().await;
        }
    }

    /// Waits for the oldest message, and sends all of the window again if that is not published.
    async fn confirm_first(&mut self) {
        let Some((message, unconfirmed)) = self.window.front_mut() else { return };
        let Some(unconfirmed) = unconfirmed.take() else { return self.resend().await };
        let number = message.number;
        match unconfirmed.confirmed().await {
            Ok(()) => {
                self.remove_first();
                (self.notify)(Notice::Confirmed);
            }
            Err(PublishError::TooLarge(problem)) if self.is_careful => {
                self.remove_first();
                self.is_careful = false;
                (self.notify)(Notice::Rejected(number, problem));
                self.lose().await;
            }
            Err(error) => self.fail(&error).await,
        }
    }

    fn remove_first(&mut self) {
        self.bytes -= self.window.pop_front().map_or(0, |(message, _)| message.body.len());
    }

    async fn resend(&mut self) {
        let publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => self.open().await,
        };
        self.send_from(publisher, 0).await;
    }

    /// Sends what stands in the window from a place on, or only the first while being careful.
    async fn send_from(&mut self, publisher: Publisher, start: usize) {
        let count = if self.is_careful { 1 } else { self.window.len() - start };
        for (message, unconfirmed) in self.window.iter_mut().skip(start).take(count) {
            match publisher.send(&self.exchange, &message.routing_key, None, &message.body).await {
                Ok(sent) => *unconfirmed = Some(sent),
                Err(error) => {
                    publisher.close().await;
                    return self.fail(&error).await;
                }
            }
        }
        self.publisher = Some(publisher);
    }

    async fn open(&mut self) -> Publisher {
        loop {
            // Without the queues nothing would be routed; whoever comes first declares them.
            let opened = match declare(&self.settings.broker).await {
                Ok(_) => Publisher::open(&self.settings.broker).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(publisher) => return publisher,
                Err(error) => self.pause(format!("{error:#}")).await,
            }
        }
    }

    async fn fail(&mut self, error: &PublishError) {
        self.lose().await;
        self.is_careful |= matches!(error, PublishError::TooLarge(_));
        if !self.is_careful {
            self.pause(error.to_string()).await;
        }
    }

    /// Gives the connection up, and with it the confirms that were to come over it.
    async fn lose(&mut self) {
        self.window.iter_mut().for_each(|(_, unconfirmed)| *unconfirmed = None);
        if let Some(publisher) = self.publisher.take() {
            publisher.close().await;
        }
    }

    async fn pause(&mut self, error: String) {
        let wait = self.backoff.next_wait();
        (self.notify)(Notice::Waiting(error, wait));
        tokio::time::sleep(wait).await;
    }
}
