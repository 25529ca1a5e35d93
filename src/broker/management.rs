//! What AMQP does not tell, asked of the broker's management HTTP API.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use tokio_util::either::Either;
use url::Url;

use super::connection::uri;
use crate::settings;

/// Of an answer about one queue, with a consumer per replica.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A queue as the management API tells it. The broker counts these every few seconds (5 by default).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Messages that are delivered or wait to be; not known of a queue in its first seconds.
    pub messages: Option<u64>,
    /// Delivered and not settled.
    pub unacked: Option<u64>,
    /// Messages that come in, a second.
    pub publish_rate: Option<f64>,
    /// Messages that are settled, a second.
    pub ack_rate: Option<f64>,
    /// Who consumes.
    pub consumers: Vec<Consumer>,
}

/// Who consumes from a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// As the consumer named itself.
    pub tag: String,
    /// Its `x-priority`, 0 where it has none.
    pub priority: i64,
}

/// A connection to the management API.
pub struct Management {
    sender: SendRequest<Empty<Bytes>>,
    /// The URL's path, without a slash at its end.
    path: String,
    vhost: String,
    host: String,
    authorization: String,
    timeout: Duration,
}

impl Management {
    /// Connects to `broker.management_url`; `None` where that is not set. A URL without a user takes that of
    /// `broker.url`.
    ///
    /// # Errors
    ///
    /// What keeps it from being connected to; never with a password.
    pub async fn open(settings: &settings::Broker) -> anyhow::Result<Option<Self>> {
        if settings.management_url.is_empty() {
            return Ok(None);
        }
        match tokio::time::timeout(settings.connect_timeout, Self::connect(settings)).await {
            Ok(connected) => connected.map(Some),
            Err(_) => Err(anyhow!("no connection within {:?}", settings.connect_timeout)),
        }
        .context("management API unavailable")
    }

    async fn connect(settings: &settings::Broker) -> anyhow::Result<Self> {
        // The parser's own text would do no harm, but no text at all cannot.
        let url = Url::parse(settings.management_url.expose()).map_err(|_| anyhow!("its URL cannot be read"))?;
        let amqp = uri(settings)?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = if url.username().is_empty() {
            let authority = &amqp.authority;
            (authority.userinfo.username.clone(), authority.userinfo.password.clone())
        } else {
            (decoded(url.username()), decoded(url.password().unwrap_or_default()))
        };
        let name = url.host_str().context("its URL names no host")?.to_owned();
        let port = url.port_or_known_default().context("its URL names no port")?;
        let stream = TcpStream::connect((name.trim_matches(['[', ']']), port)).await?;
        let stream = if url.scheme() == "https" {
            let server = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
            Either::Left(tls()?.connect(server, stream).await?)
        } else {
            Either::Right(stream)
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong shows in the answers that do not come.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            path: url.path().trim_end_matches('/').to_owned(),
            vhost: amqp.vhost,
            host: format!("{name}:{port}"),
            authorization: format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))),
            timeout: settings.connect_timeout,
        })
    }

    /// A queue's figures; `None` if there is no such queue.
    ///
    /// # Errors
    ///
    /// When there is no answer, or the user may not ask.
    pub async fn figures(&mut self, queue: &str) -> anyhow::Result<Option<Figures>> {
        Ok(self.get(&["queues"], &[queue]).await?.as_ref().map(read_figures))
    }

    /// Whether anything but its own name still routes to a queue.
    ///
    /// # Errors
    ///
    /// As for [`Self::figures`].
    pub async fn is_bound(&mut self, queue: &str) -> anyhow::Result<bool> {
        let bindings = self.get(&["queues"], &[queue, "bindings"]).await?;
        let bindings = bindings.as_ref().and_then(Value::as_array);
        // Every queue is bound to the nameless exchange.
        Ok(bindings.is_some_and(|all| all.iter().any(|binding| binding["source"] != "")))
    }

    /// The answer to a question about something in the virtual host; `None` where there is no such thing.
    async fn get(&mut self, before: &[&str], after: &[&str]) -> anyhow::Result<Option<Value>> {
        let mut path = format!("{}/api", self.path);
        for segment in before.iter().chain([&self.vhost.as_str()]).chain(after) {
            write!(path, "/{}", utf8_percent_encode(segment, NON_ALPHANUMERIC))?;
        }
        match tokio::time::timeout(self.timeout, self.ask(&path)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow!("no answer within {:?}", self.timeout)),
        }
        .context("asking the management API")
    }

    async fn ask(&mut self, path: &str) -> anyhow::Result<Option<Value>> {
        self.sender.ready().await?;
        let request = Request::get(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.authorization)
            .body(Empty::new())
            .context("writing the request")?;
        let answer = self.sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                bail!("it refuses the user, who needs the tag monitoring")
            }
            other => bail!("it answers with status {other}"),
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| anyhow!(error))?.to_bytes();
        Ok(Some(serde_json::from_slice(&body).context("its answer is not JSON")?))
    }
}

/// Verifies against the system's certificates, or those of `SSL_CERT_FILE`, as the AMQP connection does.
fn tls() -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(added > 0, "the system has no certificates to verify it with");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn read_figures(queue: &Value) -> Figures {
    let rate = |name: &str| queue["message_stats"][name]["rate"].as_f64();
    let consumers = queue["consumer_details"].as_array().into_iter().flatten().filter_map(|consumer| {
        let tag = consumer["consumer_tag"].as_str()?.to_owned();
        // Without arguments some versions give an empty array.
        Some(Consumer { tag, priority: consumer["arguments"]["x-priority"].as_i64().unwrap_or(0) })
    });
    Figures {
        messages: queue["messages"].as_u64(),
        unacked: queue["messages_unacknowledged"].as_u64(),
        publish_rate: rate("publish_details"),
        ack_rate: rate("ack_details"),
        consumers: consumers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_told_is_not_made_up() {
        assert_eq!(read_figures(&json!({ "message_stats": [], "consumer_details": [] })), Figures::default());
        let told = read_figures(&json!({
            "messages": 7,
            "messages_unacknowledged": 5,
            "message_stats": { "ack_details": { "rate": 2.5 } },
            "consumer_details": [
                { "consumer_tag": "q@a", "arguments": { "x-priority": 9 } },
                { "consumer_tag": "other", "arguments": [] },
            ],
        }));
        let consumer = |tag: &str, priority| Consumer { tag: tag.into(), priority };
        assert_eq!(
            told,
            Figures {
                messages: Some(7),
                unacked: Some(5),
                publish_rate: None,
                ack_rate: Some(2.5),
                consumers: vec![consumer("q@a", 9), consumer("other", 0)],
            }
        );
    }
}
