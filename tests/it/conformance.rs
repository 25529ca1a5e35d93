//! The conformance kit agrees with every row, however the events come.

use std::time::Duration;

use crate::support::{DEADLINE, Kit, Place, Replica, eventually, eventually_within, is_full, postgres_log, rollcall};

/// How the events are worked off.
struct Way {
    replicas: usize,
    max_events: &'static str,
    /// Kills a replica with SIGKILL every second, but not before something was acked, and starts another.
    kills: bool,
}

const ALONE: Way = Way { replicas: 1, max_events: "500", kills: false };
const THREE_FULL: Way = Way { replicas: 3, max_events: "500", kills: false };
const THREE_SEVENS: Way = Way { replicas: 3, max_events: "7", kills: false };
const THREE_ONES: Way = Way { replicas: 3, max_events: "1", kills: false };
const KILLED: Way = Way { replicas: 3, max_events: "7", kills: true };

/// 20,000 in a full run; the ways that are slow by nature get fewer otherwise.
fn events(short: u32) -> u32 {
    if is_full() { 20_000 } else { short }
}

/// Publishes a scenario, works it off and checks it; then all of it again in another order, and nothing
/// may have changed but the attempts of dead letters.
async fn conforms(seed: u32, events: u32, way: Way) {
    let Some(kit) = Kit::generate(seed, events).await else { return };
    let place = Place::new().await;
    kit.set_up(&place).await;
    let published = rollcall(&place, &[]).args(["publish", "--raw"]).arg(kit.file()).output().await.unwrap();
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    work_off(&place, &way).await;
    kit.check(&place).await;
    place.assert_metrics_recompute().await;

    let before = place.contents().await;
    let mut bodies = kit.bodies();
    bodies.reverse();
    place.publish(bodies).await;
    work_off(&place, &way).await;
    let after = place.contents().await;
    let differing = before.iter().zip(&after).filter(|(before, after)| before != after).take(3).collect::<Vec<_>>();
    assert!(
        before.len() == after.len() && differing.is_empty(),
        "{} rows, then {}: {differing:?}",
        before.len(),
        after.len()
    );
    kit.check(&place).await;
    assert_log_has_no_error(&place);
}

async fn work_off(place: &Place, way: &Way) {
    // Quarantine has tests of its own; here a slow machine would only see innocent events redelivered a hundred times.
    let environment =
        [("ROLLCALL_BATCH__MAX_EVENTS", way.max_events), ("ROLLCALL_LIMITS__MAX_REDELIVERIES", "1000000")];
    if !way.kills {
        return place.work_off(way.replicas, &environment).await;
    }
    let mut replicas: Vec<_> = (0..way.replicas).map(|_| Replica::start(place, &environment)).collect();
    let drained = eventually_within(5 * DEADLINE, "the queues are empty", async || place.ready().await == 0);
    let kills = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.tick().await;
        loop {
            // On a busy machine a second may be too short to do anything in, and events that come back a hundred
            // times for nothing are quarantined, as they should be.
            let before = acked(&replicas).await;
            ticks.tick().await;
            eventually("something is acked", async || acked(&replicas).await > before).await;
            replicas.remove(0).kill().await;
            replicas.push(Replica::start(place, &environment));
        }
    };
    tokio::select! { () = drained => {} () = kills => {} }
    for replica in replicas {
        replica.kill().await;
    }
    // What the killed ones held comes back.
    place.work_off(1, &environment).await;
}

async fn acked(replicas: &[Replica]) -> f64 {
    let mut acked = 0.0;
    for replica in replicas {
        acked += replica.metric("rollcall_acked_total").await;
    }
    acked
}

/// No SQLSTATE ever surfaces: not 23505, not 40P01, nothing.
fn assert_log_has_no_error(place: &Place) {
    let Some(log) = postgres_log() else {
        eprintln!("NOT CHECKED: the log of a server named by DATABASE_URL");
        return;
    };
    let log = std::fs::read_to_string(log).unwrap();
    let errors: Vec<_> = log
        .lines()
        .filter(|line| line.contains(&place.name))
        .filter(|line| ["ERROR:", "FATAL:", "PANIC:"].iter().any(|level| line.contains(level)))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_1_with_one_replica() {
    conforms(1, 20_000, ALONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_2_with_three_replicas() {
    conforms(2, 20_000, THREE_FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_3_with_three_replicas_and_batches_of_seven() {
    conforms(3, events(10_000), THREE_SEVENS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_4_with_three_replicas_and_batches_of_one() {
    conforms(4, events(4_000), THREE_ONES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_5_with_a_replica_killed_every_second() {
    conforms(5, events(8_000), KILLED).await;
}

/// Every seed in every way: an hour, run before a release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_seeds_in_all_ways() {
    if !is_full() {
        eprintln!("SHORTENED: set ROLLCALL_TEST_FULL=1 for every seed in every way");
        return;
    }
    for seed in 1..=5 {
        for way in [ALONE, THREE_FULL, THREE_SEVENS, THREE_ONES, KILLED] {
            eprintln!("seed {seed}: {} replicas, batches of {}, kills: {}", way.replicas, way.max_events, way.kills);
            conforms(seed, 20_000, way).await;
        }
    }
}
