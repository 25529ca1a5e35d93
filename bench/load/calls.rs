//! Two versions of what stands in the database, by the CPU time of their calls. Both get each call, one right after the other, so that
//! a machine that is faster at times is so for both.

use std::{
    collections::{HashMap, VecDeque},
    fs,
};

use anyhow::{Context as _, ensure};
use rollcall::{
    apply::{self, Applied},
    database,
    settings::Settings,
};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    limits::{Event, decode_all},
    load::{Ground, Load},
    options::Options,
    scenarios::{Measure, Scenario},
    support::Place,
};

/// One of the two, and what its calls have used, in ns.
struct Side {
    connection: PgConnection,
    pid: i32,
    used: Vec<f64>,
}

impl Side {
    async fn of(place: &Place) -> anyhow::Result<Self> {
        let mut connection = database::connect(&place.settings.database).await?;
        let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        Ok(Self { connection, pid, used: Vec::new() })
    }

    async fn call(&mut self, events: &[Event], again: bool) -> anyhow::Result<()> {
        let facts: Vec<_> = events.iter().flat_map(|(org, facts, _)| facts.iter().map(|fact| (*org, fact))).collect();
        let before = self.cpu_ns()?;
        let connection = &mut self.connection;
        let applied =
            if again { apply::apply_again(connection, &facts).await } else { apply::apply(connection, &facts).await };
        let Applied { busy, unknown, .. } = applied?;
        ensure!(busy.is_empty() && unknown.is_empty(), "not applied: {busy:?}, {unknown:?}");
        self.used.push(self.cpu_ns()? - before);
        Ok(())
    }

    fn cpu_ns(&self) -> anyhow::Result<f64> {
        let stat =
            fs::read_to_string(format!("/proc/{}/schedstat", self.pid)).context("reading a session's CPU time")?;
        Ok(stat.split(' ').next().context("an empty schedstat")?.parse()?)
    }
}

/// Works the load off in two databases, with statements having changed the second.
pub async fn compare(
    ground: &mut Ground,
    scenario: &Scenario,
    options: &Options,
    statements: &str,
) -> anyhow::Result<String> {
    ensure!(!scenario.is_preloaded, "{}: its database is not copied", scenario.name);
    let (first, load) = ground.next(scenario, options).await?;
    let (second, _) = ground.next(scenario, options).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut second.connect().await).await?;
    let (mut before, mut after) = (Side::of(&first).await?, Side::of(&second).await?);
    let calls = calls(&load, &first.settings)?;
    let again = scenario.measure == Measure::Again;
    if again {
        for side in [&mut before, &mut after] {
            for events in &calls {
                side.call(events, false).await?;
            }
            side.used.clear();
        }
    }
    for (number, events) in calls.iter().enumerate() {
        let turns = if number.is_multiple_of(2) { [&mut before, &mut after] } else { [&mut after, &mut before] };
        for side in turns {
            side.call(events, again).await?;
        }
    }
    // Plans are made in the first ones, and tables are empty. An even number, so that in each pair both were first once: whoever is
    // finds less in the caches.
    let first = calls.len() / 10 / 2 * 2;
    let pairs = |side: &Side| side.used[first..].chunks_exact(2).map(|pair| pair[0] + pair[1]).collect::<Vec<_>>();
    let mut ratios: Vec<_> = pairs(&after).iter().zip(pairs(&before)).map(|(b, a)| b / a).collect();
    ensure!(!ratios.is_empty(), "{}: too few events", scenario.name);
    ratios.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let events = calls[first..].iter().map(Vec::len).sum::<usize>() as f64;
    let us = |side: &Side| side.used[first..].iter().sum::<f64>() / 1000.0 / events;
    let (a, b) = (us(&before), us(&after));
    let quarter = |part: usize| ratios[(ratios.len() - 1) * part / 4];
    Ok(format!(
        "{}: {a:.1} and {b:.1} µs of CPU time for an event, B / A {:.3}; of {} pairs of calls {:.3} (quartiles {:.3} and {:.3})",
        scenario.name,
        b / a,
        ratios.len(),
        quarter(2),
        quarter(1),
        quarter(3),
    ))
}

/// Of each partition as much as is held of it, in turn.
fn calls(load: &Load, settings: &Settings) -> anyhow::Result<Vec<Vec<Event>>> {
    let partitions = usize::from(settings.broker.partitions);
    let most = settings.batch.max_transaction_events.min(usize::from(settings.broker.prefetch));
    let mut of = HashMap::new();
    let mut queues = vec![VecDeque::new(); partitions];
    for event in decode_all(&load.bodies.join(&b'\n'), settings)? {
        let next = of.len() % partitions;
        queues[*of.entry(event.0).or_insert(next)].push_back(event);
    }
    let mut calls = Vec::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        for queue in queues.iter_mut().filter(|queue| !queue.is_empty()) {
            calls.push(queue.drain(..queue.len().min(most)).collect());
        }
    }
    Ok(calls)
}
