//! The pipeline: the only module that knows all six rooms, and how a delivery walks through them.
//!
//! ```text
//! consume -> decode -> batch -> plan -> apply -> settle
//! ```

mod prepare;
mod queue;
mod router;
mod session;
mod suspects;
mod ticket;
mod writer;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    broker::Frames,
    consume,
    database::{self, Connection, Fault, Schema},
    failure::Died,
    retry::Backoff,
    settings::Settings,
    status::Status,
};
pub use session::size;

/// What all sessions of a process share.
#[derive(Debug, Clone)]
pub struct Worker {
    settings: Arc<Settings>,
    replica: String,
    status: Arc<Status>,
}

impl Worker {
    /// A worker of one replica.
    #[must_use]
    pub fn new(settings: Arc<Settings>, status: Arc<Status>) -> Self {
        let name = &settings.replica.name;
        let replica = if name.is_empty() { Uuid::new_v4().simple().to_string() } else { name.clone() };
        Self { settings, replica, status }
    }

    /// Works until `stop` is cancelled and what was begun is finished. Outages are waited for.
    ///
    /// # Errors
    ///
    /// When a stage dies, which is a bug: the process should end.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut backoff = Backoff::new(&self.settings.retry);
        let mut frames = Frames::Short;
        while !stop.is_cancelled() {
            // Nothing is taken from the broker that could not be written: held deliveries would run
            // into its timeout and count as redelivered.
            let Some(prepared) = stop.run_until_cancelled(self.prepare(frames)).await else { break };
            let ended = match prepared {
                Ok(prepared) => session::run(self, prepared, &stop).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(session::Stopped) => break,
                Err(error) if error.is::<Died>() => return Err(error),
                Err(error) if consume::lengthen(&mut frames, &error) => {}
                Err(error) => {
                    let wait = backoff.next_wait();
                    self.status.broker_fails(&error, wait);
                    let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
                }
            }
        }
        Ok(())
    }

    /// Asks the database now and then, so that readiness knows of an outage that no event meets.
    pub async fn watch_database(&self, stop: CancellationToken) {
        let settings = &self.settings.database;
        let mut connection = None;
        while !stop.is_cancelled() {
            let asking = self.ask_database(&mut connection);
            let found = match tokio::time::timeout(settings.connect_timeout, asking).await {
                Ok(found) => found,
                Err(_) => Err(Fault::Outage(format!("no answer within {:?}", settings.connect_timeout))),
            };
            if found.is_err() {
                connection = None;
            }
            self.status.database_watched(found.as_ref().copied());
            let _ = stop.run_until_cancelled(tokio::time::sleep(settings.watch_interval)).await;
        }
    }

    async fn wait_for_database(&self) {
        let mut backoff = Backoff::new(&self.settings.retry);
        loop {
            match self.ask_database(&mut None).await {
                Ok(()) => {
                    self.status.database_works();
                    return;
                }
                Err(fault) => {
                    let wait = backoff.next_wait();
                    self.status.database_fails(&fault, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Whether the database can be used, over a connection that is opened where there is none.
    async fn ask_database(&self, connection: &mut Option<Connection>) -> Result<(), Fault> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(database::connect_plainly(&self.settings.database).await?),
        };
        match database::schema(connection).await? {
            Schema::Current => Ok(()),
            Schema::Behind(missing) => {
                Err(Fault::Setup(format!("{missing} migrations are missing: run rollcall migrate")))
            }
        }
    }
}
