//! Holds every ack until the database, or the dead queue, shows what it acknowledges.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use crate::{
    load::{Effect, Key, Load, missing},
    support::proxy::{Delivered, Published, Watcher},
};

/// Longer than any outage here.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Detector {
    load: Arc<Load>,
    /// As the superuser, and not through a proxy.
    url: String,
    dead_exchange: String,
    /// Effects that were seen once stay.
    seen: Mutex<HashSet<Vec<u8>>>,
    /// Confirmed dead letters.
    letters: Mutex<HashMap<Vec<u8>, u64>>,
    connection: tokio::sync::Mutex<Option<PgConnection>>,
    /// Bodies that a fault brings along, and judges itself.
    strangers: Mutex<HashSet<Vec<u8>>>,
    acks: AtomicU64,
    early: AtomicU64,
}

impl Detector {
    pub fn new(load: Arc<Load>, url: String, dead_exchange: String) -> Self {
        Self {
            load,
            url,
            dead_exchange,
            seen: Mutex::default(),
            letters: Mutex::default(),
            connection: tokio::sync::Mutex::default(),
            strangers: Mutex::default(),
            acks: AtomicU64::new(0),
            early: AtomicU64::new(0),
        }
    }

    /// Deliveries whose ack was looked at, and those of them that had left nothing yet.
    pub fn found(&self) -> (u64, u64) {
        (self.acks.load(Ordering::Relaxed), self.early.load(Ordering::Relaxed))
    }

    /// Leaves the judgement of these bodies to others.
    pub fn leave_out(&self, bodies: &[(String, Vec<u8>)]) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.extend(bodies.iter().map(|(_, body)| body.clone()));
    }

    /// Distinct dead letters that were confirmed.
    pub fn letters(&self) -> usize {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether this dead letter was confirmed.
    pub fn is_confirmed(&self, body: &[u8]) -> bool {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).contains_key(body)
    }

    fn early(&self, count: usize) {
        self.early.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Whether it comes from the dead queue, whose consumer is named after it.
    fn is_letter(&self, delivery: &Delivered) -> bool {
        delivery.queue_consumer_tag == self.dead_exchange
    }

    /// Rows that have to be there for these deliveries, and letters that have to be archived.
    fn claims<'a>(&'a self, delivered: &'a [Delivered]) -> (Vec<Key>, Vec<&'a [u8]>) {
        let (mut rows, mut archived) = (Vec::new(), Vec::new());
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        for delivery in delivered {
            let body = &delivery.body;
            if self.is_letter(delivery) {
                archived.push(&**body);
                continue;
            }
            match self.load.effects.get(&**body) {
                Some(Effect::Rows(keys)) if !seen.contains(&**body) => rows.extend(keys),
                Some(Effect::Dead(_)) if !letters.contains_key(&**body) => self.early(1),
                Some(_) => {}
                None if strangers.contains(&**body) => {}
                // Nobody published this.
                None => self.early(1),
            }
        }
        (rows, archived)
    }

    async fn absent(&self, rows: &[Key], archived: &[&[u8]]) -> usize {
        let mut kept = self.connection.lock().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ask(&mut kept, &self.url, rows, archived).await {
                Ok(absent) => return usize::try_from(absent).unwrap_or(usize::MAX),
                // The server is down: what it acknowledged will be seen when it is up.
                Err(error) => {
                    *kept = None;
                    assert!(Instant::now() < deadline, "the detector cannot ask the database: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn ask(kept: &mut Option<PgConnection>, url: &str, rows: &[Key], archived: &[&[u8]]) -> sqlx::Result<i64> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(PgConnection::connect(url).await?),
    };
    let mut absent = if rows.is_empty() { 0 } else { missing(connection, rows).await? };
    if !archived.is_empty() {
        let query = "select count(*) from unnest($1::bytea[]) as l (body)
            where not exists (select from dead_letters d where d.body_sha256 = sha256(l.body))";
        absent += sqlx::query_scalar::<_, i64>(query).bind(archived).fetch_one(connection).await?;
    }
    Ok(absent)
}

impl Watcher for Detector {
    fn acked(&self, delivered: Vec<Delivered>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.acks.fetch_add(delivered.len() as u64, Ordering::Relaxed);
            let (rows, archived) = self.claims(&delivered);
            if !rows.is_empty() || !archived.is_empty() {
                let absent = self.absent(&rows, &archived).await;
                self.early(absent);
            }
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(
                delivered.iter().filter(|delivery| !self.is_letter(delivery)).map(|delivery| delivery.body.to_vec()),
            );
        })
    }

    fn confirmed(&self, published: Published) {
        if published.exchange == self.dead_exchange {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            *letters.entry(published.body.to_vec()).or_default() += 1;
        }
    }
}
