//! Retention: letters that were resolved long ago are forgotten.

use tokio_util::sync::CancellationToken;

use crate::{database, database::Fault, letters, settings::Settings, status::Status};

/// Deletes what is old enough, now and then, until `stop` is cancelled. An outage is none of its business: there is always
/// a next time.
pub async fn sweep(settings: &Settings, status: &Status, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(forget(settings)).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(letters)) => {
                status.metrics.expired.inc_by(letters);
                tracing::info!(letters, keep = ?settings.dead_letters.keep, "resolved dead letters were deleted");
            }
            Some(Err(fault)) => tracing::debug!(error = %fault, "resolved dead letters stay for now"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(settings.dead_letters.sweep_interval)).await.is_none() {
            return;
        }
    }
}

/// Step by step, so that no lock is held long.
async fn forget(settings: &Settings) -> Result<u64, Fault> {
    let mut connection = database::connect_plainly(&settings.database).await?;
    let mut letters = 0;
    loop {
        match letters::expire(&mut connection, settings.dead_letters.keep).await? {
            0 => return Ok(letters),
            some => letters += some,
        }
    }
}
