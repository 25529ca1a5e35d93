//! Frames of AMQP 0-9-1: a type, a channel, a length, a payload and an end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use super::{
    Delivered, Point, Published,
    channels::Channels,
    reader::{Reader, Reading, Side},
};

const GREETING: &[u8] = b"AMQP";
const HEAD: usize = 7;
const END: u8 = 0xce;

/// What one side of a connection says.
pub struct Frames {
    side: Side,
    /// By channel, where the rest of a message is awaited.
    contents: HashMap<u16, Content>,
    channels: Arc<Mutex<Channels>>,
}

/// A message of which the method came.
struct Content {
    left: u64,
    /// For a watcher.
    kept: Option<(Message, Vec<u8>)>,
}

enum Message {
    Delivered { tag: u64, consumer_tag: String, redelivered: bool },
    Published { number: u64, exchange: String, routing_key: String, is_mandatory: bool },
    Returned { exchange: String, routing_key: String },
}

impl Reader for Frames {
    fn length(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.starts_with(GREETING) {
            return Some(GREETING.len() + 4);
        }
        let size = u32::from_be_bytes(*bytes.get(3..)?.first_chunk()?);
        Some(HEAD + usize::try_from(size).ok()? + 1)
    }

    fn read(&mut self, frame: &[u8], is_watched: bool) -> Reading {
        if frame.starts_with(GREETING) {
            return Reading { is_complete: true, ..Reading::default() };
        }
        let (payload, end) = frame[HEAD..].split_at(frame.len() - HEAD - 1);
        assert_eq!(end, [END], "a frame ends where it says");
        let channel = u16::from_be_bytes([frame[1], frame[2]]);
        let mut reading = match frame[0] {
            1 => self.method(channel, &mut Fields(payload), is_watched),
            2 => self.header(channel, &mut Fields(payload)),
            3 => self.body(channel, payload),
            // A heartbeat.
            _ => Reading { is_complete: true, ..Reading::default() },
        };
        reading.channel = channel;
        reading
    }
}

impl Frames {
    pub fn of(side: Side, channels: &Arc<Mutex<Channels>>) -> Self {
        Self { side, contents: HashMap::new(), channels: Arc::clone(channels) }
    }

    fn method(&mut self, channel: u16, fields: &mut Fields<'_>, is_watched: bool) -> Reading {
        let mut reading = Reading { is_complete: true, ..Reading::default() };
        match (self.side, fields.u16(), fields.u16()) {
            (Side::Server, 60, 60) => {
                reading.point = Some(Point::Deliver);
                reading.is_complete = false;
                self.expect(channel, is_watched.then(|| delivered(fields.short(), fields)));
            }
            // get-ok
            (Side::Server, 60, 71) => {
                reading.is_complete = false;
                self.expect(channel, is_watched.then(|| delivered(String::new(), fields)));
            }
            (Side::Server, 60, 50) => {
                reading.is_complete = false;
                self.expect(channel, is_watched.then(|| returned(fields)));
            }
            (Side::Server, 60, 80) => {
                reading.point = Some(Point::Confirm);
                reading.confirmed = self.channels().confirm(channel, fields.u64(), fields.bits() & 1 > 0);
            }
            (Side::Server, 60, 120) => drop(self.channels().confirm(channel, fields.u64(), fields.bits() & 1 > 0)),
            (Side::Client, 60, 40) => {
                reading.point = Some(Point::Publish);
                reading.is_complete = false;
                let number = self.channels().count(channel);
                self.expect(channel, number.filter(|_| is_watched).map(|number| published(number, fields)));
            }
            (Side::Client, 60, 80) => {
                reading.point = Some(Point::Ack);
                reading.acked = self.channels().settle(channel, fields.u64(), fields.bits() & 1 > 0);
            }
            // nack and reject
            (Side::Client, 60, 120) => drop(self.channels().settle(channel, fields.u64(), fields.bits() & 1 > 0)),
            (Side::Client, 60, 90) => drop(self.channels().settle(channel, fields.u64(), false)),
            (Side::Client, 60, 100 | 110) => self.channels().recover(channel),
            (Side::Client, 60, 20) => reading.point = Some(Point::Consume),
            (Side::Client, 85, 10) => self.channels().select_confirms(channel),
            (Side::Client, 20, 10) => {
                reading.point = Some(Point::Open);
                self.channels().open(channel);
            }
            _ => {}
        }
        reading
    }

    fn expect(&mut self, channel: u16, message: Option<Message>) {
        self.contents.insert(channel, Content { left: 0, kept: message.map(|message| (message, Vec::new())) });
    }

    fn header(&mut self, channel: u16, fields: &mut Fields<'_>) -> Reading {
        let content = self.contents.get_mut(&channel).expect("a method before its header");
        // class and weight
        fields.skip(4);
        content.left = fields.u64();
        self.complete(channel)
    }

    fn body(&mut self, channel: u16, payload: &[u8]) -> Reading {
        let content = self.contents.get_mut(&channel).expect("a header before its body");
        content.left -= u64::try_from(payload.len()).expect("a length");
        if let Some((_, body)) = &mut content.kept {
            body.extend_from_slice(payload);
        }
        self.complete(channel)
    }

    /// Enters a message once all of it is there.
    fn complete(&mut self, channel: u16) -> Reading {
        if self.contents[&channel].left > 0 {
            return Reading::default();
        }
        let content = self.contents.remove(&channel).expect("it was here");
        if let Some((message, body)) = content.kept {
            self.enter(channel, message, body.into());
        }
        Reading { is_complete: true, ..Reading::default() }
    }

    fn enter(&self, channel: u16, message: Message, body: Arc<[u8]>) {
        let mut channels = self.channels();
        match message {
            Message::Delivered { tag, consumer_tag, redelivered } => {
                let delivered = Delivered { queue_consumer_tag: consumer_tag, redelivered, at: Instant::now(), body };
                channels.deliver(channel, tag, delivered);
            }
            Message::Published { number, exchange, routing_key, is_mandatory } => {
                channels.publish(channel, number, Published { exchange, routing_key, body }, is_mandatory);
            }
            Message::Returned { exchange, routing_key } => {
                channels.give_back(channel, &Published { exchange, routing_key, body });
            }
        }
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap()
    }
}

fn delivered(consumer_tag: String, fields: &mut Fields<'_>) -> Message {
    Message::Delivered { tag: fields.u64(), consumer_tag, redelivered: fields.bits() & 1 > 0 }
}

fn returned(fields: &mut Fields<'_>) -> Message {
    // the reason
    fields.skip(2);
    fields.short();
    Message::Returned { exchange: fields.short(), routing_key: fields.short() }
}

fn published(number: u64, fields: &mut Fields<'_>) -> Message {
    // reserved
    fields.skip(2);
    let (exchange, routing_key) = (fields.short(), fields.short());
    Message::Published { number, exchange, routing_key, is_mandatory: fields.bits() & 1 > 0 }
}

/// The fields of a payload, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, length: usize) {
        self.take(length);
    }

    fn bits(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn short(&mut self) -> String {
        let length = self.bits();
        String::from_utf8_lossy(self.take(length.into())).into_owned()
    }
}
