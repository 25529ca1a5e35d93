//! As much of AMQP as it takes to publish what no client library would.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

/// A channel with confirms on a connection of its own.
pub struct RawChannel(TcpStream);

impl RawChannel {
    /// Connects to `amqp://user:password@host:port/…` and its default virtual host.
    pub fn open(url: &str) -> Self {
        let (login, place) = url.strip_prefix("amqp://").unwrap().split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let stream = TcpStream::connect(place.split('/').next().unwrap()).unwrap();
        stream.set_read_timeout(Some(super::DEADLINE)).unwrap();
        let mut this = Self(stream);
        this.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        this.expect(10, 10);
        let response = format!("\0{user}\0{password}");
        this.method(0, 10, 11, &[&[0; 4], &short("PLAIN")[..], &long(response.as_bytes()), &short("en_US")].concat());
        this.expect(10, 30);
        this.method(0, 10, 31, &[&1_u16.to_be_bytes()[..], &131_072_u32.to_be_bytes(), &0_u16.to_be_bytes()].concat());
        this.method(0, 10, 40, &[&short("/")[..], &short(""), &[0]].concat());
        this.expect(10, 41);
        this.method(1, 20, 10, &short(""));
        this.expect(20, 11);
        this.method(1, 85, 10, &[0]);
        this.expect(85, 11);
        this
    }

    /// Publishes with a header table nested this deep, and waits for the confirm.
    pub fn publish_nested(&mut self, exchange: &str, routing_key: &str, depth: u32, body: &[u8]) {
        self.method(1, 60, 40, &[&[0, 0], &short(exchange)[..], &short(routing_key), &[0]].concat());
        let mut table = Vec::new();
        for left in (0..depth).rev() {
            table.extend_from_slice(b"\x01aF");
            table.extend_from_slice(&(7 * left).to_be_bytes());
        }
        self.publish_headed(&table, body);
    }

    /// Publishes with one header of so many bytes, and waits for the confirm.
    pub fn publish_long(&mut self, exchange: &str, routing_key: &str, bytes: usize, body: &[u8]) {
        self.method(1, 60, 40, &[&[0, 0], &short(exchange)[..], &short(routing_key), &[0]].concat());
        self.publish_headed(&[b"\x01aS", &long(&vec![b'x'; bytes])[..]].concat(), body);
    }

    fn publish_headed(&mut self, table: &[u8], body: &[u8]) {
        let size = u64::try_from(body.len()).unwrap();
        // flags: headers and delivery mode
        let head = [&60_u16.to_be_bytes()[..], &[0, 0], &size.to_be_bytes(), &[0x30, 0], &long(table), &[2]].concat();
        self.frame(2, 1, &head);
        self.frame(3, 1, body);
        self.expect(60, 80);
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        self.frame(1, channel, &[&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap();
        let frame = [&[kind], &channel.to_be_bytes()[..], &size.to_be_bytes(), payload, &[0xce]].concat();
        self.0.write_all(&frame).unwrap();
    }

    fn expect(&mut self, class: u16, method: u16) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let size = u32::from_be_bytes(head[3..].try_into().unwrap());
        let mut payload = vec![0; usize::try_from(size).unwrap() + 1];
        self.0.read_exact(&mut payload).unwrap();
        assert_eq!(payload[..4], [class.to_be_bytes(), method.to_be_bytes()].concat()[..]);
    }
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
