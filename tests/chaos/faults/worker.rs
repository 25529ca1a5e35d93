//! Replicas that are killed, stopped and frozen.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{Fault, TIMES, fault, sprung};
use crate::{
    scene::Scene,
    support::{
        Replica,
        proxy::{Action, Point},
    },
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// SIGKILL to one of several at any time.
    KillAnyone,
    /// SIGTERM, and another one takes over.
    Terminate,
    /// SIGSTOP until the broker has given its events to others, then SIGCONT.
    Zombie,
    /// SIGSTOP inside a transaction, for longer than the server lets it be idle.
    FreezeInTransaction,
    /// Of three replicas, one has a clock that is an hour behind, and one that is an hour ahead.
    WrongClocks,
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Worker(act));
    vec![
        Fault { replicas: 3, ..named("one of three replicas: SIGKILL at any time", Act::KillAnyone) },
        Fault { replicas: 2, ..named("replica: SIGTERM under load", Act::Terminate) },
        Fault { replicas: 2, ..named("replica: frozen for 6 s, its events given to another", Act::Zombie) },
        Fault {
            in_halves: true,
            has_what_it_needs: || faketime().map(drop).ok_or("needs libfaketime (apt-get install faketime)"),
            ..named("three replicas: one clock an hour behind, one an hour ahead", Act::WrongClocks)
        },
        named("replica: frozen inside a transaction for 4 s", Act::FreezeInTransaction),
    ]
}

impl Act {
    pub(super) async fn happen(self, scene: &mut Scene) -> Result<(), String> {
        match self {
            Self::KillAnyone => kill_anyone(scene).await,
            Self::Terminate => terminate(scene).await,
            Self::Zombie => zombie(scene).await,
            Self::FreezeInTransaction => freeze(scene).await,
            Self::WrongClocks => wrong_clocks(scene).await,
        }
    }
}

async fn kill_anyone(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = TIMES;
    for _ in 0..TIMES {
        scene.progress().await?;
        tokio::time::sleep(Duration::from_millis(scene.random.u64(0..100))).await;
        let index = scene.random.usize(..scene.replicas.len());
        scene.replace(index).await;
        scene.recovered(Instant::now()).await?;
    }
    Ok(())
}

async fn terminate(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = TIMES;
    for _ in 0..TIMES {
        scene.progress().await?;
        scene.add_replica();
        scene.weigh();
        scene.replicas.remove(0).stop().await;
        scene.reached += 1;
    }
    Ok(())
}

async fn zombie(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    scene.progress().await?;
    scene.replicas[0].signal("STOP").await;
    let since = Instant::now();
    let recovered = scene.recovered(since).await;
    tokio::time::sleep(Duration::from_secs(6).saturating_sub(since.elapsed())).await;
    scene.replicas[0].signal("CONT").await;
    recovered
}

async fn freeze(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    scene.progress().await?;
    let frozen = Duration::from_secs(4);
    let trap = scene.database.arm(Point::Commit, 3, Action::Freeze(scene.replicas[0].pid(), frozen));
    if sprung(scene, &trap).await {
        scene.recovered(Instant::now() + frozen).await?;
    }
    Ok(())
}

/// The library that lies about the time, where the system has it.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

async fn wrong_clocks(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 2;
    let library = faketime().expect("it was there a moment ago");
    for (offset, hours) in [("-1h", -1), ("+1h", 1)] {
        let mut command = scene.command();
        // Timers go by the monotonic clock, which no skew changes.
        command.env("LD_PRELOAD", &library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let replica = Replica::start_command(command);
        replica.ready().await;
        let line = replica.log();
        let told = line.split_whitespace().next().unwrap_or_default();
        let query = sqlx::query_scalar("select round(extract(epoch from $1::text::timestamptz - now()) / 3600)::int");
        let skew: i32 = query.bind(told).fetch_one(&mut scene.place.connect().await).await.unwrap();
        if skew != hours {
            return Err(format!("its clock is {skew} h ahead instead of {hours} h"));
        }
        scene.replicas.push(replica);
    }
    scene.publish_rest();
    scene.progress().await?;
    for replica in 1..=2 {
        let has_worked = async || scene.replicas[replica].metric("rollcall_acked_total").await > 0.0;
        scene.until("a replica with a wrong clock has worked", has_worked).await?;
        scene.recovered(Instant::now()).await?;
    }
    Ok(())
}
