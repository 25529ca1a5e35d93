//! Publishing with confirms, mandatory: a message counts as published only when a queue has it.

use std::time::Duration;

use anyhow::anyhow;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

use super::{close, connect, describe, headers::own_headers, in_time};
use crate::{
    clock,
    decode::Refusal,
    sabotage::{Bug, is_on},
    settings,
};

/// A connection for publishing only: the broker blocks those that publish when it runs short, and a
/// blocked connection could not ack.
pub struct Publisher {
    connection: Connection,
    channel: Channel,
    confirm_timeout: Duration,
}

/// Why something is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker is away, silent or blocked; whether the message arrived is unknown.
    #[error("{0}")]
    Broken(String),
    /// No queue is bound.
    #[error("no queue took it: {0}")]
    Unroutable(String),
    /// The broker said no, for now.
    #[error("the broker did not take it")]
    Refused,
    /// The broker closed the channel over a message, which one is unknown: longer than it allows.
    #[error("the broker refuses a message: {0}")]
    TooLarge(String),
}

/// A message on its way to a queue.
pub struct Unconfirmed {
    confirm: PublisherConfirm,
    timeout: Duration,
}

impl Publisher {
    /// Opens the connection.
    ///
    /// # Errors
    ///
    /// When the broker is away.
    pub async fn open(settings: &settings::Broker) -> anyhow::Result<Self> {
        let connection = connect(settings, "rollcall publish").await?;
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let opened = in_time(settings.connect_timeout, opening).await;
        let channel = opened.map_err(|error| anyhow!(describe(&error)).context("opening a channel"))?;
        Ok(Self { connection, channel, confirm_timeout: settings.confirm_timeout })
    }

    /// Sends a persistent JSON message, with the reason in its headers if it is a dead letter; it is
    /// published once the returned confirm has been awaited. It says when it was published; no other
    /// properties or headers are ever passed on.
    ///
    /// # Errors
    ///
    /// When the connection is broken or stays blocked.
    pub async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        refusal: Option<&Refusal>,
        body: &[u8],
    ) -> Result<Unconfirmed, PublishError> {
        let published_at = clock::now_ms();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_timestamp(u64::try_from(published_at / 1000).unwrap_or_default())
            .with_headers(own_headers(published_at, refusal));
        let is_mended = is_on(Bug::MendedBody).then(|| String::from_utf8_lossy(body).into_owned().into_bytes());
        let body = is_mended.as_deref().unwrap_or(body);
        let options = BasicPublishOptions { mandatory: !is_on(Bug::NotMandatory), ..Default::default() };
        let sending = self.channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        match tokio::time::timeout(self.confirm_timeout, sending).await {
            Ok(sent) => {
                let confirm = sent.map_err(|error| broken(&error))?;
                Ok(Unconfirmed { confirm, timeout: self.confirm_timeout })
            }
            Err(_) => Err(PublishError::Broken(format!("the broker takes nothing since {:?}", self.confirm_timeout))),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        close(self.connection).await;
    }
}

impl Unconfirmed {
    /// Waits until a queue has it.
    ///
    /// # Errors
    ///
    /// When it is not, or not known to be, published.
    pub async fn confirmed(self) -> Result<(), PublishError> {
        match tokio::time::timeout(self.timeout, self.confirm).await {
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)))) => {
                Err(PublishError::Unroutable(returned.reply_text.to_string()))
            }
            Ok(Ok(Confirmation::Nack(None) | Confirmation::NotRequested)) => Err(PublishError::Refused),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(PublishError::Broken(format!("no confirm within {:?}", self.timeout))),
        }
    }
}

fn broken(error: &lapin::Error) -> PublishError {
    match error.kind() {
        // PRECONDITION_FAILED
        ErrorKind::ProtocolError(protocol) if protocol.get_id() == 406 => PublishError::TooLarge(describe(error)),
        _ => PublishError::Broken(describe(error)),
    }
}
