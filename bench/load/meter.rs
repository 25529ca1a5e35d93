//! What the servers and the programs have used so far: CPU time from /proc, rows and pages from PostgreSQL.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::Context as _;
use rollcall::servers::Servers;
use sqlx::{Connection as _, PgConnection};

use crate::{figures::Figures, support::Place};

/// What /proc counts in; the same on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds of both servers.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub broker: f64,
    pub postgres: f64,
}

impl Cpu {
    pub fn of(servers: &Servers) -> Self {
        Self { broker: cpu_of_tree(servers.rabbitmq_pid()), postgres: cpu_of_tree(servers.postgres_pid()) }
    }
}

/// CPU seconds of a process and all its descendants. That of a child moves to its parent when it has ended and was
/// waited for, so that nothing is lost and nothing is counted twice.
pub fn cpu_of_tree(root: u32) -> f64 {
    let mut ticks: HashMap<u32, u64> = HashMap::new();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some((parent, used)) = read_stat(pid) {
            ticks.insert(pid, used);
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut total, mut open) = (0, vec![root]);
    while let Some(pid) = open.pop() {
        total += ticks.get(&pid).copied().unwrap_or(0);
        open.extend(children.remove(&pid).unwrap_or_default());
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let total = total as f64;
    total / TICKS_A_SECOND
}

/// The parent, and ticks of the process with those of its children that have ended.
fn read_stat(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let used = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some((fields.get(1)?.parse().ok()?, used))
}

/// Waits until the broker has done what it puts off while it takes messages in.
pub async fn broker_rests(servers: &Servers) {
    const LOOK: Duration = Duration::from_millis(500);
    for _ in 0..20 {
        let before = cpu_of_tree(servers.rabbitmq_pid());
        tokio::time::sleep(LOOK).await;
        if cpu_of_tree(servers.rabbitmq_pid()) - before < LOOK.as_secs_f64() / 10.0 {
            return;
        }
    }
}

/// Lets what waits stand in the broker's segment files, as a backlog does. Else it stands there or still in the write-ahead log and
/// in memory, as that happens to be full, and the broker needs half as much again for a message, or not.
pub async fn roll_over(servers: &Servers) -> anyhow::Result<()> {
    tokio::task::block_in_place(|| servers.rabbitmqctl(&["eval", "ra_log_wal:force_roll_over(ra_log_wal)."]))?;
    broker_rests(servers).await;
    Ok(())
}

/// Where PostgreSQL's counters of a database stand.
pub struct Counters {
    wal: i64,
    hits: i64,
    tables: Vec<(String, i64, i64, i64)>,
}

impl Counters {
    /// After a checkpoint, so that no run pays for the full page images that another was spared.
    pub async fn at_start(place: &Place) -> anyhow::Result<Self> {
        let mut connection = superuser(place).await?;
        sqlx::raw_sql("checkpoint").execute(&mut connection).await?;
        Self::read(&mut connection).await
    }

    /// When all of the worker's sessions have ended, since only then they have told what they did.
    pub async fn at_end(place: &Place) -> anyhow::Result<Self> {
        let mut connection = superuser(place).await?;
        let others =
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
            and backend_type = 'client backend'";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await? > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self::read(&mut connection).await
    }

    async fn read(connection: &mut PgConnection) -> anyhow::Result<Self> {
        let wal = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        let hits = "select blks_hit from pg_stat_database where datname = current_database()";
        let tables = "select relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables order by 1";
        Ok(Self {
            wal: sqlx::query_scalar(wal).fetch_one(&mut *connection).await?,
            hits: sqlx::query_scalar(hits).fetch_one(&mut *connection).await?,
            tables: sqlx::query_as(tables).fetch_all(connection).await?,
        })
    }

    /// What happened since an earlier look, for each event.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub fn since(&self, earlier: &Self, events: f64, figures: &mut Figures) {
        let per_event = |now: i64, before: i64| (now - before) as f64 / events;
        figures.set("wal_bytes", per_event(self.wal, earlier.wal));
        figures.set("buffer_hits", per_event(self.hits, earlier.hits));
        for (table, inserted, updated, hot) in &self.tables {
            let before = earlier.tables.iter().find(|before| before.0 == *table);
            let &(_, old_inserted, old_updated, old_hot) = before.unwrap_or(&(String::new(), 0, 0, 0));
            for (what, rows) in [
                ("inserted", per_event(*inserted, old_inserted)),
                ("updated", per_event(*updated, old_updated)),
                ("hot_updated", per_event(*hot, old_hot)),
            ] {
                figures.add(&format!("rows_{what}"), rows);
                if rows > 0.0 {
                    figures.set(&format!("rows_{what}.{table}"), rows);
                }
            }
        }
    }
}

/// One who may do everything, in a place's database.
pub async fn superuser(place: &Place) -> anyhow::Result<PgConnection> {
    PgConnection::connect(&place.superuser_url()).await.context("connecting to the private PostgreSQL")
}
