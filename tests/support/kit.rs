//! The conformance kit, which stands beside the project where it is developed, and is no part of it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rollcall::{
    clock,
    decode::{Limits, decode, org_of},
};
use tempfile::TempDir;
use tokio::process::Command;

use super::Place;

/// A generated scenario.
pub struct Kit {
    folder: PathBuf,
    scenario: TempDir,
}

impl Kit {
    /// Generates a scenario; `None`, said aloud, where the kit is not there.
    pub async fn generate(seed: u32, events: u32) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
        if !folder.join("check.py").exists() {
            eprintln!(
                "SKIPPED: the conformance kit is not beside the project; the tests in law.rs cover the same rules"
            );
            return None;
        }
        let kit = Self { folder, scenario: TempDir::new().unwrap() };
        let mut command = Command::new("python3");
        command.arg(kit.folder.join("generate.py")).arg(kit.scenario.path());
        let done = command.args(["--events", &events.to_string(), "--seed", &seed.to_string()]).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Some(kit)
    }

    /// Inserts the organizations and chats.
    pub async fn set_up(&self, place: &Place) {
        let setup = std::fs::read_to_string(self.scenario.path().join("setup.sql")).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(&mut place.connect().await).await.unwrap();
    }

    /// All bodies in publishing order, each with a routing key as `rollcall publish` would choose it.
    pub fn bodies(&self) -> Vec<(String, Vec<u8>)> {
        let text = std::fs::read(self.scenario.path().join("events.ndjson")).unwrap();
        let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
        let limits = Limits { max_body_bytes: 1 << 20, max_clock_skew: Duration::from_hours(24), store_text: true };
        let key = |body: &[u8]| match decode(body, &limits, clock::now()) {
            Ok(Some(event)) => event.routing_key(),
            _ => org_of(body, limits.max_body_bytes).map(|org| org.to_string()).unwrap_or_default(),
        };
        lines.map(|body| (key(body), body.to_vec())).collect()
    }

    pub fn file(&self) -> PathBuf {
        self.scenario.path().join("events.ndjson")
    }

    /// Lets the kit compare the tables with what the contract promises.
    pub async fn check(&self, place: &Place) {
        let mut command = Command::new("python3");
        command.arg(self.folder.join("check.py")).args(["--db", place.settings.database.url.expose()]).arg(self.file());
        let done = command.output().await.unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{told}{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(told.matches(": ok").count(), 6, "{told}");
    }
}
