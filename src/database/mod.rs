//! `PostgreSQL`: connections, migrations, and what its errors mean.

mod fault;

use std::time::Duration;

use anyhow::Context as _;
use sqlx::{
    ConnectOptions as _, PgConnection,
    migrate::{Migrate as _, Migrator},
    postgres::PgConnectOptions,
};

use crate::settings;
pub use fault::{Fault, FaultKind, Rejection};
/// A connection.
pub use sqlx::PgConnection as Connection;

/// The schema, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Opens a connection for the worker.
///
/// A task keeps its connection instead of sharing a pool: a cancelled `begin` of sqlx 0.9.0 leaves an
/// open transaction behind on a pooled connection, and a dead one leaks its permit.
///
/// # Errors
///
/// What keeps the connection from being opened.
pub async fn connect(settings: &settings::Database) -> Result<PgConnection, Fault> {
    let options = options(settings).map_err(|error| Fault::Setup(format!("{error:#}")))?;
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let options = options.options([
        // An ack promises what a commit holds.
        ("synchronous_commit", "on".to_owned()),
        ("statement_timeout", milliseconds(settings.statement_timeout)),
        ("lock_timeout", milliseconds(settings.lock_timeout)),
        ("idle_in_transaction_session_timeout", milliseconds(settings.transaction_timeout)),
        ("default_transaction_isolation", "read committed".to_owned()),
        // Every lookup is by a whole key. Nothing else may be planned: a prepared plan that was made
        // while the tables were empty would stay when they have grown.
        ("jit", "off".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("enable_bitmapscan", "off".to_owned()),
        ("enable_material", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("plan_cache_mode", "force_generic_plan".to_owned()),
    ]);
    open(&options, settings).await
}

/// Opens a connection with the server's own settings, for commands.
///
/// # Errors
///
/// What keeps the connection from being opened.
pub async fn connect_plainly(settings: &settings::Database) -> Result<PgConnection, Fault> {
    let options = options(settings).map_err(|error| Fault::Setup(format!("{error:#}")))?;
    open(&options, settings).await
}

async fn open(options: &PgConnectOptions, settings: &settings::Database) -> Result<PgConnection, Fault> {
    match tokio::time::timeout(settings.connect_timeout, options.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(Fault::Outage(format!("no connection within {:?}", settings.connect_timeout))),
    }
}

fn options(settings: &settings::Database) -> anyhow::Result<PgConnectOptions> {
    // The error of the parser could repeat the URL.
    let options: PgConnectOptions = settings.url.expose().parse().ok().context("database.url is no PostgreSQL URL")?;
    Ok(options.application_name("rollcall").disable_statement_logging())
}

/// How the schema of a database compares with the one compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// All migrations are there.
    Current,
    /// This many are missing.
    Behind(usize),
}

/// Compares the schema.
///
/// # Errors
///
/// When the database cannot be read.
pub async fn schema(connection: &mut PgConnection) -> Result<Schema, Fault> {
    let applied = sqlx::query_scalar::<_, i64>(
        "select count(*) from pg_catalog.pg_class where oid = to_regclass('_sqlx_migrations')",
    );
    let applied = if applied.fetch_one(&mut *connection).await? == 0 {
        Vec::new()
    } else {
        let table = MIGRATOR.table_name.clone();
        connection.list_applied_migrations(&table).await.map_err(|error| Fault::Setup(error.to_string()))?
    };
    let is_missing =
        |migration: &&sqlx::migrate::Migration| applied.iter().all(|applied| applied.version != migration.version);
    Ok(match MIGRATOR.iter().filter(is_missing).count() {
        0 => Schema::Current,
        missing => Schema::Behind(missing),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database that has one of them refuses to go on when its file has changed.
    #[test]
    fn released_migrations_stay_as_they_are() {
        let begin = |checksum: &[u8]| u32::from_be_bytes(checksum[..4].try_into().unwrap());
        let found: Vec<_> = MIGRATOR.iter().map(|migration| (migration.version, begin(&migration.checksum))).collect();
        let released = [
            (20_261_124_000_000, 0x8f3a_6b7b),
            (20_261_124_000_100, 0x878d_0f81),
            (20_261_124_000_200, 0x893a_bd68),
            (20_261_124_000_300, 0x9675_d9ae),
            (20_261_124_000_400, 0xc2a5_7cab),
            (20_261_124_000_500, 0xf5ed_b8d9),
            (20_261_124_000_600, 0xeb20_f7e8),
            (20_261_124_000_700, 0x26d3_9acf),
            (20_261_125_000_000, 0x9539_0b66),
            (20_261_125_000_100, 0x6e21_1e29),
            (20_261_126_000_000, 0x8f1e_3c72),
            (20_261_126_000_100, 0xb286_3909),
            (20_261_126_000_200, 0xe341_4ce9),
            (20_261_126_000_300, 0x831c_15ee),
            (20_261_126_000_400, 0x91ea_5da4),
            (20_261_127_000_000, 0x6027_e316),
            (20_261_129_000_000, 0xb2b9_3922),
            (20_261_129_000_100, 0x996a_13f5),
            (20_261_130_000_000, 0x2218_ba14),
            (20_261_130_000_100, 0x9a80_c97a),
        ];
        assert_eq!(found, released, "a new one comes at the end, none changes");
    }
}
