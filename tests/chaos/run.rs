//! One fault with one seed, from an empty place to a verdict.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rollcall::servers::Servers;
use serde::{Deserialize, Serialize};

use crate::{faults::Fault, load::Load, postgres_log::PostgresLog, scene::Scene, support::Place, verdict::Verdict};

/// What became of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub fault: String,
    pub seed: u64,
    pub confirmed: u64,
    /// Distinct events that left rows, dead letters, and nothing.
    pub applied: u64,
    pub dead_lettered: u64,
    pub ignored: u64,
    pub verdict: Verdict,
    /// Acked deliveries that the detector looked at.
    pub acked: u64,
    pub reached: u32,
    pub wanted: u32,
    pub recoveries_ms: Vec<u64>,
    pub peak_memory: u64,
    pub seconds: f64,
}

impl Run {
    /// Whether it proves anything: a fault that was not reached was not survived.
    pub fn is_void(&self) -> bool {
        self.reached < self.wanted
    }

    pub fn is_green(&self) -> bool {
        self.verdict.is_clean() && !self.is_void()
    }
}

/// Longer than the broker takes to notice that a connection is cut.
const RETURN: Duration = Duration::from_secs(5);
/// Longer than any run may take.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs it. `environment` comes on top of the fault's own settings; `patience` is how long the worker may take
/// to recover and to finish.
pub async fn run(
    fault: &Fault,
    load: &Arc<Load>,
    template: &Place,
    servers: Option<&'static Servers>,
    environment: &[(&str, &str)],
    patience: Duration,
) -> Run {
    let begun = Instant::now();
    let place = template.copy().await;
    let settings = [fault.settings, environment].concat();
    let log = PostgresLog::from_now();
    let mut scene = Scene::set(place, Arc::clone(load), servers, &settings, fault.replicas).await;
    scene.patience = patience;
    let mut verdict = Verdict::default();
    let mut confirmed = 0;
    if let Err(trouble) = play(fault, &mut scene, &mut confirmed).await {
        verdict.trouble(trouble);
        for replica in &scene.replicas {
            verdict.trouble(format!("the end of a log: {}", last_lines(&replica.log())));
        }
    }
    let Scene { place, detector, replicas, database, broker, undo, .. } = &mut scene;
    for replica in replicas.drain(..) {
        replica.kill().await;
    }
    database.close().await;
    broker.close().await;
    verdict.judge(place, load).await;
    // No duplicate key and no deadlock ever surfaces.
    let bad = if fault.deadlocks { &["23505"][..] } else { &["23505", "40P01"] };
    if let Some(line) = log.as_ref().and_then(|log| log.errors(&place.name, bad).into_iter().next()) {
        verdict.trouble(line);
    }
    for undo in undo.drain(..) {
        undo.await;
    }
    let (acked, early) = detector.found();
    verdict.early_acks = early;
    let (applied, ignored) = load.counts();
    Run {
        fault: fault.name.to_owned(),
        seed: load.seed,
        confirmed,
        applied: applied as u64,
        dead_lettered: load.dead().len() as u64,
        ignored: ignored as u64,
        verdict,
        acked,
        reached: scene.reached,
        wanted: scene.wanted,
        recoveries_ms: scene
            .recoveries
            .iter()
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
            .collect(),
        peak_memory: scene.peak_memory,
        seconds: begun.elapsed().as_secs_f64(),
    }
}

async fn play(fault: &Fault, scene: &mut Scene, confirmed: &mut u64) -> Result<(), String> {
    let acts = async {
        if fault.in_halves {
            scene.publish_half();
        } else {
            scene.publish();
        }
        fault.happen(scene).await?;
        scene.publish_kept_back();
        *confirmed = scene.published().await;
        drain(scene).await
    };
    tokio::time::timeout(LIMIT, acts).await.unwrap_or_else(|_| Err(format!("not done within {LIMIT:?}")))
}

/// Lets the replicas finish and stop, until nothing comes back.
async fn drain(scene: &mut Scene) -> Result<(), String> {
    for _ in 0..5 {
        let deadline = Instant::now() + scene.patience;
        while !(scene.is_drained().await && scene.is_idle().await) {
            if Instant::now() > deadline {
                let ready = scene.place.try_ready().await;
                return Err(format!("not drained within {:?}: {ready:?} messages wait", scene.patience));
            }
            scene.weigh();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        scene.weigh();
        for mut replica in scene.replicas.drain(..) {
            replica.terminate().await;
            let status = replica.ended().await;
            if !status.success() {
                return Err(format!("a replica ended with {status}: {}", last_lines(&replica.log())));
            }
        }
        if !comes_back(scene).await {
            return Ok(());
        }
        scene.add_replica();
    }
    Err("events come back again and again".into())
}

/// Whether something is in the queues again, now that all replicas have stopped. What a half-open connection held
/// comes back when that is cut, a moment later; without anything missing there is no need to wait for that.
async fn comes_back(scene: &Scene) -> bool {
    scene.broker.cut();
    let mut verdict = Verdict::default();
    verdict.judge(&scene.place, &scene.load).await;
    let deadline = Instant::now() + if verdict.is_clean() { Duration::ZERO } else { RETURN };
    loop {
        if scene.place.try_ready().await != Some(0) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
