//! What each statement of the worker costs in PostgreSQL. In runs of its own: counting them costs something too.

use rollcall::servers::Servers;
use serde::Serialize;
use sqlx::Connection as _;

use crate::{
    contender::{Contender, Run},
    meter::superuser,
    postgres::configure,
    report::aligned,
};

/// A statement, by the event.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct Statement {
    pub query: String,
    pub calls: i64,
    pub ms: f64,
    pub rows: i64,
    pub hits: i64,
    pub wal_bytes: i64,
    /// Of the run.
    #[sqlx(skip)]
    pub events: u64,
}

/// Restarts PostgreSQL with the extension, for the rest of its life.
pub async fn enable(servers: &'static Servers) -> anyhow::Result<()> {
    configure(servers, &[("shared_preload_libraries", "pg_stat_statements")]).await?;
    // The worker's statements stand in a procedure.
    configure(servers, &[("pg_stat_statements.track", "all")]).await
}

/// Works the load off once more.
pub async fn measure(run: &Run<'_>, program: &Contender) -> anyhow::Result<Vec<Statement>> {
    let mut connection = superuser(run.place).await?;
    sqlx::raw_sql("create extension if not exists pg_stat_statements; select pg_stat_statements_reset()")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    run.measure(program, false).await?;
    let read = "select regexp_replace(query, '\\s+', ' ', 'g') as query, calls, total_exec_time as ms, rows, shared_blks_hit as hits, wal_bytes::bigint
        from pg_stat_statements s join pg_database d on d.oid = s.dbid join pg_roles r on r.oid = s.userid
        where d.datname = current_database() and r.rolname <> current_user order by total_exec_time desc limit 12";
    let mut statements: Vec<Statement> = sqlx::query_as(read).fetch_all(&mut superuser(run.place).await?).await?;
    for statement in &mut statements {
        statement.events = run.load.events();
    }
    Ok(statements)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub fn table(statements: &[Statement]) -> String {
    if statements.is_empty() {
        return String::new();
    }
    let mut rows = vec![vec!["statement", "calls", "ms/call", "µs/ev", "rows/call", "hits/ev", "WAL B/ev"]];
    let cells: Vec<_> = statements
        .iter()
        .map(|statement| {
            let Statement { calls, ms, rows, hits, wal_bytes, events, .. } = statement;
            let (calls, events) = (*calls as f64, *events as f64);
            [
                statement.query.chars().take(60).collect(),
                format!("{calls}"),
                format!("{:.2}", ms / calls),
                format!("{:.1}", ms * 1000.0 / events),
                format!("{:.0}", *rows as f64 / calls),
                format!("{:.1}", *hits as f64 / events),
                format!("{:.0}", *wal_bytes as f64 / events),
            ]
        })
        .collect();
    rows.extend(cells.iter().map(|cells: &[String; 7]| cells.iter().map(String::as_str).collect()));
    let rows: Vec<Vec<_>> = rows.into_iter().map(|row| row.into_iter().map(str::to_owned).collect()).collect();
    aligned(&rows)
}
