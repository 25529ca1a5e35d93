//! The oracle's strength: bugs that are turned on in a debug build, each of which must be found.

use std::time::Duration;

use rollcall::{sabotage::VARIABLE, servers::Servers};

use crate::{
    faults::{self, Fault},
    load::Load,
    run::run,
    scene::PATIENCE,
    support::Place,
};

type Settings = &'static [(&'static str, &'static str)];

/// A bug, the fault with which it shows, and settings that make it show soon.
const SEEDED: [(&str, &str, Settings); 16] = [
    ("ack-before-commit", "none", &[]),
    ("ack-past-open", "COMMIT: held", &[]),
    ("count-twice", "none", &[]),
    ("arrival-wins", "none", &[]),
    ("unsorted", "database: four replicas at the same rows at once", &[]),
    ("first-organization", "none", &[]),
    ("own-clock", "none", &[]),
    ("conflict-is-done", "database: conflict at COMMIT (40001, 40P01, 55P03)", &[]),
    ("no-answer-is-done", "COMMIT: cut", &[]),
    ("read-only-is-data", "database: read-only", &[]),
    (
        "full-disk-is-unknown",
        "database: outage at COMMIT (53100, 53200, 58030, 57P03, 25006, 08006)",
        &[("ROLLCALL_LIMITS__MAX_ATTEMPTS", "1"), ("ROLLCALL_BATCH__MAX_EVENTS", "1")],
    ),
    ("not-confirmed", "dead letter: held", &[]),
    ("not-mandatory", "broker: the dead queue is unbound", &[]),
    ("mended-body", "none", &[]),
    ("archive-acks-first", "none", &[]),
    ("end-unnoticed", "broker: an empty queue of events is deleted", &[]),
];

/// A bug that makes the worker stand still shows soon enough.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// Whose first code of an outage at COMMIT is the full disk's.
const SEED: u64 = 6;
const EVENTS: u64 = 2_000;

/// Turns each on; returns whether all were found, and nothing was found without one.
pub async fn hunt(wants: impl Fn(&str) -> bool, servers: Option<&'static Servers>) -> bool {
    let load = Load::generate(SEED, EVENTS).shared();
    let template = Place::template().await;
    load.set_up(&template).await;
    let faults = faults::all();
    let named =
        |name: &str| faults.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("no fault {name}"));
    let seeded: Vec<_> = SEEDED.iter().filter(|(bug, ..)| wants(bug)).collect();
    let mut controls: Vec<&Fault> = Vec::new();
    let mut is_sound = true;
    for (bug, fault, settings) in &seeded {
        let fault = named(fault);
        if controls.iter().all(|control| control.name != fault.name) {
            controls.push(fault);
        }
        let environment = [settings, &[(VARIABLE, *bug)][..]].concat();
        let run = run(fault, &load, &template, servers, &environment, IMPATIENCE).await;
        let is_found = !run.verdict.is_clean();
        is_sound &= is_found;
        let verdict = &run.verdict;
        let first = verdict.troubles.first().and_then(|trouble| trouble.lines().next()).unwrap_or_default();
        eprintln!(
            "{} {bug} ({}): lost {}, duplicated {}, unexpected {}, false dead letters {}, early acks {} {first:.120}",
            if is_found { "found    " } else { "NOT FOUND" },
            fault.name,
            verdict.lost,
            verdict.duplicated,
            verdict.unexpected,
            verdict.false_dead_letters,
            verdict.early_acks,
        );
    }
    for fault in controls {
        let run = run(fault, &load, &template, servers, &[], PATIENCE).await;
        is_sound &= run.is_green();
        eprintln!("{} without a bug ({})", if run.is_green() { "clean    " } else { "NOT CLEAN" }, fault.name);
        for trouble in &run.verdict.troubles {
            eprintln!("    {trouble}");
        }
    }
    eprintln!("{} seeded bugs", seeded.len());
    is_sound
}
