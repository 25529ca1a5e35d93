//! Databases that restart, refuse and fail.

use std::time::{Duration, Instant};

use rollcall::servers::PostgresStop;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Fault, Reach, TIMES, WHILE, fault, try_signal};
use crate::{
    postgres_log::PostgresLog,
    scene::{PATIENCE, Scene},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Restart(PostgresStop),
    /// SIGKILL to one backend: the server ends all others too, and recovers.
    KillBackend,
    TerminateBackends,
    /// The first transactions fail at COMMIT with one of these, by seed.
    Raise(&'static [&'static str]),
    /// A table is locked for longer than a worker waits.
    Locked,
    /// Several replicas are let at the same rows at the same moment, again and again.
    Crowd,
    /// Rows that take longer than a statement may.
    Slow,
    /// Somebody else locks the same rows in the opposite order, until the server ends the worker's transaction.
    Deadlock,
    /// The schema changes, as a new version of the worker would want it.
    Migrated,
    /// The role's password is another one for a while.
    Password,
    /// For a while, by these statements, which name the database as `{db}` and the role as `{role}`.
    Changed {
        there: &'static str,
        back: &'static str,
    },
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Database(act));
    let raises = |name, codes| Fault { deadlocks: true, ..named(name, Act::Raise(codes)) };
    let own = |name, act| Fault { reach: Reach::Servers, ..named(name, act) };
    let of_role = |name, act| Fault { reach: Reach::Role, ..named(name, act) };
    vec![
        raises("database: conflict at COMMIT (40001, 40P01, 55P03)", &["40001", "40P01", "55P03"]),
        raises(
            "database: outage at COMMIT (53100, 53200, 58030, 57P03, 25006, 08006)",
            &["53100", "53200", "58030", "57P03", "25006", "08006"],
        ),
        raises("database: timeout at COMMIT (57014)", &["57014"]),
        raises("database: set up wrongly at COMMIT (42501, 42P01, 0A000)", &["42501", "42P01", "0A000"]),
        raises("database: unknown fault at COMMIT, few times (XX000, P0001)", &["XX000", "P0001"]),
        named("database: backends terminated", Act::TerminateBackends),
        named("database: a table is locked", Act::Locked),
        // The server looks for deadlocks after a second of waiting.
        Fault {
            replicas: 4,
            settings: &[("ROLLCALL_DATABASE__LOCK_TIMEOUT", "1500ms")],
            ..named("database: four replicas at the same rows at once", Act::Crowd)
        },
        Fault {
            settings: &[("ROLLCALL_DATABASE__STATEMENT_TIMEOUT", "500ms")],
            ..named("database: statements take too long", Act::Slow)
        },
        named(
            "database: too many clients",
            Act::Changed {
                there: "alter database {db} connection limit 0",
                back: "alter database {db} connection limit -1",
            },
        ),
        named(
            "database: read-only",
            Act::Changed {
                there: "alter database {db} set default_transaction_read_only = on",
                back: "alter database {db} reset default_transaction_read_only",
            },
        ),
        named(
            "database: rights taken away",
            Act::Changed {
                there: "alter table participant_groups owner to current_user",
                back: "alter table participant_groups owner to {role}",
            },
        ),
        named(
            "database: a table is renamed",
            Act::Changed {
                there: "alter table participant_groups rename to away",
                back: "alter table away rename to participant_groups",
            },
        ),
        of_role(
            "database: the role may not log in",
            Act::Changed { there: "alter role {role} nologin", back: "alter role {role} login" },
        ),
        named("database: the schema is migrated", Act::Migrated),
        of_role("database: the role's password is changed and set back", Act::Password),
        Fault {
            deadlocks: true,
            in_halves: true,
            settings: &[("ROLLCALL_DATABASE__LOCK_TIMEOUT", "1900ms")],
            ..own("database: deadlock with another client", Act::Deadlock)
        },
        own("database: restarted (fast)", Act::Restart(PostgresStop::Fast)),
        own("database: restarted (immediate)", Act::Restart(PostgresStop::Immediate)),
        own("database: SIGKILL and started", Act::Restart(PostgresStop::Kill)),
        own("database: SIGKILL to a backend", Act::KillBackend),
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::Restart(how) => {
                let restart = async |scene: &mut Scene| {
                    let restarting = scene.with_servers(move |servers| {
                        servers.stop_postgres(how)?;
                        servers.start_postgres()
                    });
                    restarting.await
                };
                scene.strike(1, restart).await
            }
            Self::KillBackend => scene.strike(1, async |scene| kill_backend(scene).await).await,
            Self::TerminateBackends => scene.strike(TIMES, async |scene| terminate_backends(scene).await).await,
            Self::Raise(codes) => raise(scene, codes).await,
            Self::Locked => scene.strike(2, async |scene| lock_for(scene, "org_telegram_groups", WHILE).await).await,
            // Shorter than a worker waits for a lock.
            Self::Crowd => {
                let short = Duration::from_millis(250);
                scene.strike(2 * TIMES, async |scene| lock_for(scene, "participants", short).await).await
            }
            Self::Slow => slow(scene).await,
            Self::Deadlock => deadlock(scene).await,
            Self::Migrated => migrate(scene).await,
            Self::Password => scene.strike(1, async |scene| change_password(scene).await).await,
            Self::Changed { there, back } => {
                let change_and_back = async |scene: &mut Scene| {
                    change(scene, there).await;
                    terminate_backends(scene).await?;
                    tokio::time::sleep(WHILE).await;
                    change(scene, back).await;
                    Ok(())
                };
                scene.strike(1, change_and_back).await
            }
        }
    }
}

async fn kill_backend(scene: &Scene) -> Result<(), String> {
    let query = "select pid from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name = 'rollcall'";
    let mut observer = superuser(scene).await;
    // The one that is found may be ending: the worker opens some connections for a moment.
    let is_killed = async || {
        let pid = sqlx::query_scalar::<_, i32>(query).fetch_optional(&mut observer).await.unwrap();
        pid.is_some_and(|pid| try_signal("KILL", pid.unsigned_abs()))
    };
    scene.until("a backend of the worker is killed", is_killed).await
}

async fn lock_for(scene: &Scene, table: &str, time: Duration) -> Result<(), String> {
    let mut connection = superuser(scene).await;
    let lock = AssertSqlSafe(format!("begin; lock table {table} in exclusive mode"));
    sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
    tokio::time::sleep(time).await;
    sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    Ok(())
}

async fn deadlock(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 3;
    let log = PostgresLog::from_now().expect("servers of the harness's own");
    let mut other = superuser(scene).await;
    // Whoever has waited that long looks for deadlocks, and gives way: the worker does after a second.
    sqlx::raw_sql("set deadlock_timeout = '1min'").execute(&mut other).await.unwrap();
    let own: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut other).await.unwrap();
    let mut observer = superuser(scene).await;
    let mut met = 0;
    while scene.reached < scene.wanted {
        // So that there are rows to lock, and no events but those that meet the lock.
        scene.emptied().await?;
        // The worker writes people first and memberships after them.
        sqlx::raw_sql("begin; select from participant_groups for update").execute(&mut other).await.unwrap();
        let blocked = "select count(*) from pg_stat_activity
            where application_name = 'rollcall' and $1 = any(pg_blocking_pids(pid))";
        scene.publish_share();
        let is_blocked =
            async || sqlx::query_scalar::<_, i64>(blocked).bind(own).fetch_one(&mut observer).await.unwrap() > 0;
        scene.until("the worker waits for the other client", is_blocked).await?;
        sqlx::raw_sql("select from participants for update; rollback").execute(&mut other).await.unwrap();
        let since = Instant::now();
        let deadlocks = log.errors(&scene.place.name, &["40P01"]).len();
        if deadlocks > met {
            met = deadlocks;
            scene.recovered(since).await?;
        }
    }
    scene.publish_rest();
    Ok(())
}

async fn migrate(scene: &mut Scene) -> Result<(), String> {
    let mut steps = [
        "alter table activity_events add column extra text not null default 'new'",
        "create index on activity_events (org_id, occurred_at)",
        "alter table participants add column extra int, alter column full_name type varchar",
    ]
    .into_iter();
    scene
        .strike(3, async |scene| {
            change(scene, steps.next().expect("a step for each time")).await;
            Ok(())
        })
        .await
}

async fn change_password(scene: &mut Scene) -> Result<(), String> {
    change(scene, "alter role {role} password 'another'").await;
    terminate_backends(scene).await?;
    // Something that makes the worker come back before it looks after the database by itself.
    scene.publish_share();
    let refused = scene.told("28P01").await;
    let back = format!("alter role {{role}} password '{}'", scene.place.password());
    change(scene, &back).await;
    refused
}

/// A connection of one who may do everything.
pub(super) async fn superuser(scene: &Scene) -> PgConnection {
    let mut connection = PgConnection::connect(&scene.place.superuser_url()).await.unwrap();
    // Also where all others may only read.
    sqlx::raw_sql("set default_transaction_read_only = off").execute(&mut connection).await.unwrap();
    connection
}

pub(super) async fn change(scene: &Scene, statement: &str) {
    let statement = statement.replace("{db}", &scene.place.name).replace("{role}", scene.place.role());
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut superuser(scene).await).await.unwrap();
}

pub(super) async fn terminate_backends(scene: &Scene) -> Result<(), String> {
    let query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
        and application_name = 'rollcall'";
    sqlx::query(query).execute(&mut superuser(scene).await).await.unwrap();
    Ok(())
}

/// Transactions that fail.
const FAILING: i64 = 8;

async fn raise(scene: &mut Scene, codes: &[&str]) -> Result<(), String> {
    scene.wanted = 1;
    let code = codes[usize::try_from(scene.load.seed).unwrap_or(0) % codes.len()];
    // Fewer than an event is tried.
    let failing = if ["XX000", "P0001"].contains(&code) { 4 } else { FAILING };
    install(
        scene,
        &format!(
            "create function fault() returns trigger language plpgsql as $$ begin
                 if nextval('faults') <= {failing} then raise exception using errcode = '{code}'; end if;
                 return null;
             end $$;
             create constraint trigger fault after insert on activity_events deferrable initially deferred
                 for each row execute function fault()"
        ),
    )
    .await;
    wait_for_faults(scene, failing).await?;
    scene.recovered(Instant::now()).await
}

async fn slow(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    install(
        scene,
        "create function fault() returns trigger language plpgsql as $$ begin
             if nextval('faults') <= 200 then perform pg_sleep(0.02); end if;
             return null;
         end $$;
         create trigger fault after insert on activity_events for each row execute function fault()",
    )
    .await;
    wait_for_faults(scene, 200).await?;
    scene.recovered(Instant::now()).await
}

/// As the owner of the tables, over which the worker's role has every right.
async fn install(scene: &Scene, definition: &str) {
    let statements = AssertSqlSafe(format!("create sequence faults; {definition}"));
    sqlx::raw_sql(statements).execute(&mut scene.place.connect().await).await.unwrap();
}

/// A sequence counts what was rolled back too.
async fn wait_for_faults(scene: &Scene, count: i64) -> Result<(), String> {
    let mut connection = scene.place.connect().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let so_far: i64 = sqlx::query_scalar("select last_value from faults").fetch_one(&mut connection).await.unwrap();
        if so_far >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("only {so_far} of {count} transactions met the fault"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
