//! Commands as people and scripts run it.

use std::process::Output;

use serde_json::Value;

use tokio::process::Command;

use super::{Place, rollcall};

/// What a command left.
pub struct Ended(Output);

impl std::ops::Deref for Ended {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.0
    }
}

impl Ended {
    /// Runs a command to its end.
    pub async fn of(command: &mut Command) -> Self {
        Self(command.output().await.unwrap())
    }

    /// What it printed; it must have succeeded.
    pub fn told(&self) -> String {
        assert!(self.status.success(), "{}", String::from_utf8_lossy(&self.stderr));
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Cause and remedy; it must have failed with this code.
    pub fn failure(&self, code: i32) -> (String, String) {
        let errors = String::from_utf8_lossy(&self.stderr);
        assert_eq!(self.status.code(), Some(code), "{errors}");
        let line =
            |start: &str| errors.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned();
        (line("error: "), line("help: "))
    }

    /// The JSON that it printed, whatever its exit code.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.stderr)))
    }
}

/// Runs `rollcall dead`.
pub async fn dead(place: &Place, args: &[&str]) -> Ended {
    Ended(rollcall(place, &[]).arg("dead").args(args).output().await.unwrap())
}

/// The same with `--json`.
pub async fn dead_json(place: &Place, args: &[&str]) -> Value {
    dead(place, &[args, &["--json"]].concat()).await.json()
}
