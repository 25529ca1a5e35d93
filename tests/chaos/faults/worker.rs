//! Replicas that are killed, stopped and frozen.

use std::time::{Duration, Instant};

use super::{Fault, TIMES, fault, sprung};
use crate::{
    scene::Scene,
    support::proxy::{Action, Point},
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
}

pub(super) fn all() -> Vec<Fault> {
    let named = |name, act| fault(name, super::Act::Worker(act));
    vec![
        Fault { replicas: 3, ..named("one of three replicas: SIGKILL at any time", Act::KillAnyone) },
        Fault { replicas: 2, ..named("replica: SIGTERM under load", Act::Terminate) },
        Fault { replicas: 2, ..named("replica: frozen for 6 s, its events given to another", Act::Zombie) },
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
    let trap = scene.database.arm(Point::Statement, 3, Action::Freeze(scene.replicas[0].pid(), frozen));
    if sprung(scene, &trap).await {
        scene.recovered(Instant::now() + frozen).await?;
    }
    Ok(())
}
