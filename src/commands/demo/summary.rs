//! What the demo prints at the end.

use std::fmt;

use sqlx::PgConnection;

use super::REPLICAS;
use crate::{commands::publish::Report, scenario::Told};

/// What was done.
pub(super) struct Summary {
    told: Told,
    report: Report,
    seconds: f64,
    rows: Vec<(String, i64)>,
    dead: Vec<(String, i64)>,
}

impl Summary {
    pub(super) async fn read(
        connection: &mut PgConnection,
        told: Told,
        report: Report,
        seconds: f64,
    ) -> anyhow::Result<Self> {
        let rows = sqlx::query_as(
            "select * from (values
                ('participants', (select count(*) from participants)),
                ('participant_groups', (select count(*) from participant_groups)),
                ('activity_events', (select count(*) from activity_events)),
                ('group_metrics', (select count(*) from group_metrics)),
                ('org_telegram_groups', (select count(*) from org_telegram_groups)),
                ('dead_letters', (select count(*) from dead_letters))
            ) as counted (name, rows)",
        );
        let rows = rows.fetch_all(&mut *connection).await?;
        let dead = sqlx::query_as("select reason, count(*) from dead_letters group by 1 order by 2 desc, 1");
        let dead = dead.fetch_all(connection).await?;
        Ok(Self { told, report, seconds, rows, dead })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { events, redelivered, bad } = self.told;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = events as f64 / self.seconds.max(0.001);
        writeln!(f, "\nevents in             {events:>9}   {}", self.report)?;
        writeln!(f, "duplicates absorbed   {redelivered:>9}   published again, no row and no count changed by them")?;
        writeln!(f, "bad events            {bad:>9}   kept as dead letters, their neighbours unharmed")?;
        writeln!(
            f,
            "applied in            {:>7.1} s   {rate:.0} events/s by {REPLICAS} replicas, start included",
            self.seconds
        )?;
        writeln!(f, "\nrows out")?;
        for (name, rows) in &self.rows {
            writeln!(f, "  {name:<19} {rows:>9}")?;
        }
        writeln!(f, "\ndead letters by reason")?;
        for (reason, rows) in &self.dead {
            writeln!(f, "  {reason:<19} {rows:>9}")?;
        }
        Ok(())
    }
}
