//! PostgreSQL, set up for the runs.

use anyhow::Context as _;
use rollcall::servers::{PostgresStop, Servers};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Restarts it with these settings, names and values.
pub async fn configure(servers: &'static Servers, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(servers.database_url()).await?;
    for (name, value) in settings {
        let quoted = "select format('alter system set %s = %L', $1::text, $2::text)";
        let statement: String = sqlx::query_scalar(quoted).bind(name).bind(value).fetch_one(&mut connection).await?;
        let set = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
        set.with_context(|| format!("setting {name} of PostgreSQL"))?;
    }
    connection.close().await?;
    let restart = move || servers.stop_postgres(PostgresStop::Fast).and_then(|()| servers.start_postgres());
    tokio::task::spawn_blocking(restart).await?.context("restarting PostgreSQL with other settings")
}
