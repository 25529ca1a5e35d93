//! Dead letters come in the same way, with their headers.

use super::{Delivery, Intake};
use crate::{broker, decode::Refusal};

/// A dead letter as it came from its queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// The message.
    pub delivery: Delivery,
    /// What its headers say; nobody vouches for them.
    pub refusal: Refusal,
    /// All its headers.
    pub headers: serde_json::Value,
}

/// An intake of dead letters, whose headers matter.
pub struct DeadIntake(pub(super) Intake);

impl DeadIntake {
    /// The next dead letter.
    ///
    /// # Errors
    ///
    /// As for [`Intake::next`].
    pub async fn next(&mut self) -> anyhow::Result<DeadLetter> {
        let letter = self.0.next_as(|partition, message| {
            let headers = message.properties.headers().clone().unwrap_or_default();
            let delivery = Intake::read(partition, message);
            DeadLetter { delivery, refusal: broker::refusal(&headers), headers: broker::to_json(&headers) }
        });
        letter.await
    }

    /// The intake, for acks and the end.
    #[must_use]
    pub const fn inner(&mut self) -> &mut Intake {
        &mut self.0
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.0.close().await;
    }
}
