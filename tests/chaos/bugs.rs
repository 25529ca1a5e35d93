//! The oracle's strength: bugs that are turned on in a debug build, each of which must be found.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
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

/// Turns each on, `jobs` at once; returns whether all were found, and nothing was found without one.
pub async fn hunt(wants: impl Fn(&str) -> bool, jobs: usize, servers: Option<&'static Servers>) -> bool {
    let load = Load::generate(SEED, EVENTS).shared();
    let template = Place::template().await;
    load.set_up(&template).await;
    let faults = faults::all();
    let named =
        |name: &str| faults.iter().find(|fault| fault.name == name).unwrap_or_else(|| panic!("no fault {name}"));
    let seeded: Vec<_> = SEEDED
        .iter()
        .filter(|(bug, ..)| wants(bug))
        .map(|(bug, fault, settings)| (*bug, named(fault), *settings))
        .collect();
    let mut controls: Vec<&Fault> = Vec::new();
    for (_, fault, _) in &seeded {
        if controls.iter().all(|control| control.name != fault.name) {
            controls.push(fault);
        }
    }
    let mut is_sound = true;
    let (load, template) = (&load, &template);
    let mut hunted = stream::iter(&seeded)
        .map(async |(bug, fault, settings)| {
            let environment = [settings, &[(VARIABLE, *bug)][..]].concat();
            (bug, run(fault, load, template, servers, &environment, IMPATIENCE).await)
        })
        .buffer_unordered(jobs);
    while let Some((bug, run)) = hunted.next().await {
        let is_found = !run.verdict.is_clean();
        is_sound &= is_found;
        let verdict = &run.verdict;
        let first = verdict.troubles.first().and_then(|trouble| trouble.lines().next()).unwrap_or_default();
        eprintln!(
            "{} {bug} ({}): lost {}, duplicated {}, unexpected {}, false dead letters {}, early acks {} {first:.120}",
            if is_found { "found    " } else { "NOT FOUND" },
            run.fault,
            verdict.lost,
            verdict.duplicated,
            verdict.unexpected,
            verdict.false_dead_letters,
            verdict.early_acks,
        );
    }
    let mut sound =
        stream::iter(controls).map(|fault| run(fault, load, template, servers, &[], PATIENCE)).buffer_unordered(jobs);
    while let Some(run) = sound.next().await {
        is_sound &= run.is_green();
        eprintln!("{} without a bug ({})", if run.is_green() { "clean    " } else { "NOT CLEAN" }, run.fault);
        for trouble in &run.verdict.troubles {
            eprintln!("    {trouble}");
        }
    }
    eprintln!("{} seeded bugs", seeded.len());
    is_sound
}
