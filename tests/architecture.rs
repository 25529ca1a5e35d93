//! The rules that keep the rooms apart hold in the source text.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The files below `src/`, with their code but without comment lines and tests.
fn code() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rust = sources(&root).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        (path.strip_prefix(&root).unwrap().display().to_string(), code.join("\n"))
    };
    let code: Vec<_> = rust.map(read).collect();
    assert!(code.len() > 20, "the source was found");
    code
}

fn assert_named_only_in(name: &str, places: &[&str]) {
    for (file, text) in code() {
        let is_allowed = places.iter().any(|place| file.starts_with(place));
        assert!(is_allowed || !text.contains(name), "{name} is named in src/{file}; it may be only in {places:?}");
    }
}

#[test]
fn the_broker_is_spoken_to_in_few_places() {
    assert_named_only_in("lapin", &["broker/", "consume/"]);
}

#[test]
fn the_database_is_spoken_to_in_few_places() {
    assert_named_only_in("sqlx", &["apply/", "archive/", "commands/", "database/", "letters/", "replay/"]);
}

/// sqlx 0.9.0 leaks a pool's permits on dead connections, and hands out connections with a transaction left open
/// on them.
#[test]
fn no_connection_is_pooled() {
    for (file, text) in code() {
        assert!(!text.contains("PgPool"), "src/{file} names a pool");
    }
}

#[test]
fn http_and_waiting_have_one_place_each() {
    assert_named_only_in("axum", &["http/"]);
    assert_named_only_in("hyper", &["broker/management.rs"]);
    assert_named_only_in("prometheus", &["metrics/"]);
    assert_named_only_in("use backoff", &["retry.rs"]);
}

#[test]
fn decode_batch_and_plan_are_pure() {
    for (file, text) in code() {
        if ["decode/", "batch/", "plan/"].iter().any(|room| file.starts_with(room)) {
            for impure in ["tokio", "lapin", "sqlx", "SystemTime", "Instant::now", "clock::", "async "] {
                assert!(!text.contains(impure), "src/{file} names {impure}");
            }
        }
    }
}

#[test]
fn only_the_pipeline_knows_all_rooms() {
    for (file, text) in code() {
        let knows = |room: &str| text.contains(&format!("{room}::"));
        let rooms = ["batch", "plan", "apply", "settle"].into_iter().filter(|room| knows(room)).count();
        assert!(rooms < 4 || file.starts_with("pipeline/"), "src/{file} knows too many rooms");
    }
}
