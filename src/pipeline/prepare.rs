//! What a session needs before it consumes, side by side: both servers have to be waited for.

use futures_util::future::join_all;
use tokio_util::task::AbortOnDropHandle;

use super::Worker;
use crate::{
    apply::Lane,
    broker::Frames,
    consume::Connected,
    settings::{self, Settings},
};

/// What a session begins with.
pub(super) struct Prepared {
    /// One for each writer.
    pub(super) lanes: Vec<Lane>,
    /// Where it consumes.
    pub(super) connected: Connected,
}

impl Worker {
    /// Waits for the database, and does meanwhile what takes time with it and with the broker.
    pub(super) async fn prepare(&self, frames: Frames) -> anyhow::Result<Prepared> {
        let Settings { broker, database, .. } = &*self.settings;
        let connecting = Connected::new(broker, "rollcall consume", frames);
        let ((), lanes, connected) = tokio::join!(self.wait_for_database(), open_lanes(database), connecting);
        Ok(Prepared { lanes, connected: connected? })
    }
}

/// A lane for each writer. What keeps one from being opened is told when it is needed; a database that hangs holds up no
/// start for long.
async fn open_lanes(settings: &settings::Database) -> Vec<Lane> {
    let opening = (0..settings.writers).map(|_| {
        let (mut lane, patience) = (Lane::new(settings.clone()), settings.connect_timeout);
        // To prove that one knows the password takes milliseconds of a core.
        AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = tokio::time::timeout(patience, lane.open()).await;
            lane
        }))
    });
    let lanes = join_all(opening.collect::<Vec<_>>()).await;
    lanes.into_iter().map(|lane| lane.unwrap_or_else(|_| Lane::new(settings.clone()))).collect()
}
