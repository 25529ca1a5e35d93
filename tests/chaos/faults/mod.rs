//! What can happen to a run.

mod broker;
mod community;
mod database;
mod disk;
mod failover;
mod machine;
mod network;
mod tls;
mod worker;

use std::time::Duration;

use crate::{
    scene::Scene,
    support::proxy::{Action, Point, Proxy},
};

/// Something that goes wrong in a run.
pub struct Fault {
    pub name: &'static str,
    pub replicas: usize,
    pub settings: &'static [(&'static str, &'static str)],
    pub reach: Reach,
    /// What is missing on this machine, if anything is.
    pub has_what_it_needs: fn() -> Result<(), &'static str>,
    /// Whether the database says 40P01 here: because it was told to, or to somebody who goes the other way.
    pub deadlocks: bool,
    /// Whether the second half of the events comes after it.
    pub in_halves: bool,
    act: Act,
}

/// Who meets it: what reaches further than its own run runs alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Its own run.
    Run,
    /// All who have the same role of the database.
    Role,
    /// All who have the same servers, which have to be the harness's own.
    Servers,
}

enum Act {
    Nothing,
    Trap(Point, Deed),
    Worker(worker::Act),
    Database(database::Act),
    Broker(broker::Act),
    Network(network::Act),
    Community(community::Act),
    Machine(machine::Act),
    Failover,
    FullDisk,
    ExpiredCertificate,
}

/// What a trap does.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    Hold,
    Cut,
    Reset,
    Kill,
    CutInTheMiddle,
    CutAfter,
    KillAfter,
}

/// How often a trap springs in a run.
const TIMES: u32 = 5;
/// How long something lasts that passes.
const WHILE: Duration = Duration::from_millis(700);

const fn fault(name: &'static str, act: Act) -> Fault {
    Fault {
        name,
        replicas: 1,
        settings: &[],
        reach: Reach::Run,
        has_what_it_needs: || Ok(()),
        deadlocks: false,
        in_halves: false,
        act,
    }
}

/// All faults, those that need no servers of the harness's own first.
pub fn all() -> Vec<Fault> {
    let trap = |name, point, deed| fault(name, Act::Trap(point, deed));
    let mut faults = vec![
        fault("none", Act::Nothing),
        Fault { replicas: 3, ..fault("none, three replicas", Act::Nothing) },
        trap("deliver: held", Point::Deliver, Deed::Hold),
        trap("deliver: cut", Point::Deliver, Deed::Cut),
        trap("deliver: cut in the middle", Point::Deliver, Deed::CutInTheMiddle),
        trap("deliver: reset", Point::Deliver, Deed::Reset),
        trap("deliver: SIGKILL", Point::Deliver, Deed::Kill),
        trap("dead letter: held", Point::Publish, Deed::Hold),
        trap("dead letter: cut", Point::Publish, Deed::Cut),
        trap("dead letter: reset", Point::Publish, Deed::Reset),
        trap("dead letter: SIGKILL", Point::Publish, Deed::Kill),
        trap("confirm: held", Point::Confirm, Deed::Hold),
        trap("confirm: cut", Point::Confirm, Deed::Cut),
        trap("confirm: reset", Point::Confirm, Deed::Reset),
        trap("SIGKILL between a dead letter's confirm and its ack", Point::Confirm, Deed::Kill),
        trap("ack: held", Point::Ack, Deed::Hold),
        trap("ack: cut", Point::Ack, Deed::Cut),
        trap("ack: cut after", Point::Ack, Deed::CutAfter),
        trap("ack: reset", Point::Ack, Deed::Reset),
        trap("SIGKILL between commit and ack", Point::Ack, Deed::Kill),
        trap("COMMIT: held", Point::Commit, Deed::Hold),
        trap("COMMIT: cut", Point::Commit, Deed::Cut),
        trap("COMMIT: cut in the middle", Point::Commit, Deed::CutInTheMiddle),
        trap("COMMIT: cut after", Point::Commit, Deed::CutAfter),
        trap("COMMIT: reset", Point::Commit, Deed::Reset),
        trap("COMMIT: SIGKILL", Point::Commit, Deed::Kill),
        trap("SIGKILL inside the transaction", Point::Commit, Deed::KillAfter),
        trap("COMMIT's answer: held", Point::Committed, Deed::Hold),
        trap("COMMIT's answer: cut", Point::Committed, Deed::Cut),
        trap("COMMIT's answer: reset", Point::Committed, Deed::Reset),
        trap("SIGKILL at COMMIT with the answer lost", Point::Committed, Deed::Kill),
    ];
    faults.extend(worker::all());
    faults.extend(network::all());
    faults.extend(database::all());
    faults.extend(broker::all());
    faults.extend(community::all());
    faults.extend(machine::all());
    faults.extend([failover::fault(), disk::fault(), tls::fault()]);
    faults.sort_by_key(|fault| fault.reach);
    faults
}

impl Fault {
    /// Lets it happen.
    ///
    /// # Errors
    ///
    /// What the worker did not recover from.
    pub async fn happen(&self, scene: &mut Scene) -> Result<(), String> {
        match &self.act {
            Act::Nothing => Ok(()),
            Act::Trap(point, deed) => spring(scene, *point, *deed).await,
            Act::Worker(act) => act.happen(scene).await,
            Act::Database(act) => act.happen(scene).await,
            Act::Broker(act) => act.happen(scene).await,
            Act::Network(act) => act.happen(scene).await,
            Act::Community(act) => act.happen(scene).await,
            Act::Machine(act) => act.happen(scene).await,
            Act::Failover => failover::happen(scene).await,
            Act::FullDisk => disk::happen(scene).await,
            Act::ExpiredCertificate => tls::happen(scene).await,
        }
    }
}

fn signal(name: &str, pid: u32) {
    assert!(try_signal(name, pid), "no process {pid}");
}

/// Whether there is such a process.
fn try_signal(name: &str, pid: u32) -> bool {
    let sent = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    sent.is_ok_and(|status| status.success())
}

const fn is_of_the_database(point: Point) -> bool {
    matches!(point, Point::Begin | Point::Begun | Point::Statement | Point::Commit | Point::Committed)
}

fn proxy(scene: &Scene, point: Point) -> &Proxy {
    if is_of_the_database(point) { &scene.database } else { &scene.broker }
}

async fn spring(scene: &mut Scene, point: Point, deed: Deed) -> Result<(), String> {
    // So that all traps have sprung before the last event.
    let spread = u32::try_from(scene.load.bodies.len() / 2500).unwrap_or(1).max(1);
    scene.wanted = TIMES;
    for _ in 0..TIMES {
        let action = match deed {
            Deed::Hold => Action::Hold(Duration::from_millis(200)),
            Deed::Cut => Action::Cut,
            Deed::Reset => Action::Reset,
            Deed::Kill => Action::Kill(scene.replicas[0].pid()),
            Deed::CutInTheMiddle => Action::CutInTheMiddle,
            Deed::CutAfter | Deed::KillAfter => Action::CutAfter,
        };
        let kth = scene.random.u32(1..=spread);
        let trap = proxy(scene, point).arm(point, kth, action);
        if !sprung(scene, &trap).await {
            break;
        }
        let since = std::time::Instant::now();
        if matches!(deed, Deed::KillAfter) {
            signal("KILL", scene.replicas[0].pid());
        }
        if matches!(deed, Deed::Kill | Deed::KillAfter) {
            scene.replace(0).await;
        }
        scene.recovered(since).await?;
    }
    Ok(())
}

/// Waits until a trap has sprung, or there is nothing left that could make it, nor kept back.
async fn sprung(scene: &mut Scene, trap: &crate::support::proxy::Trap) -> bool {
    loop {
        tokio::select! {
            () = trap.sprung() => return true,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        if scene.is_drained().await && !trap.has_sprung() && !scene.publish_share() {
            return false;
        }
    }
}
