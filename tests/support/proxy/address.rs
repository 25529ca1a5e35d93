/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Amqp,
    Postgres,
}

/// A server's URL, taken apart.
pub struct Address<'a> {
    pub protocol: Protocol,
    /// Host and port.
    pub server: String,
    before: &'a str,
    after: &'a str,
}

impl<'a> Address<'a> {
    pub fn of(url: &'a str) -> Self {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (protocol, default_port) = match scheme {
            "amqp" => (Protocol::Amqp, 5672),
            "postgres" | "postgresql" => (Protocol::Postgres, 5432),
            _ => panic!("not a protocol that can be read: {scheme}"),
        };
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        let host = rest[..authority].rfind('@').map_or(0, |at| at + 1);
        let server = &rest[host..authority];
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Self {
            protocol,
            server: if has_port { server.to_owned() } else { format!("{server}:{default_port}") },
            before: &url[..url.len() - rest.len() + host],
            after: &rest[authority..],
        }
    }

    /// The URL that leads through a port of this machine, and asks for nothing encrypted.
    pub fn by_way_of(&self, port: u16) -> String {
        let plain = match (self.protocol, self.after.contains('?')) {
            (Protocol::Amqp, _) => "",
            (Protocol::Postgres, false) => "?sslmode=disable",
            (Protocol::Postgres, true) => "&sslmode=disable",
        };
        format!("{}127.0.0.1:{port}{}{plain}", self.before, self.after)
    }
}
