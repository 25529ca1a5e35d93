//! Commands as a person meets them: exit codes, one line of cause and one of remedy, no secrets.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{DEADLINE, Place, Replica, eventually, proxy::Proxy, rollcall};

/// The program in an empty folder, with nothing of ours in its environment.
fn alone(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.ends_with("_URL") || name.starts_with("ROLLCALL_")) {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command failed with this code and told the cause in one line and the remedy in another.
fn assert_failure(output: &Output, code: i32) -> (String, String) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    let lines: Vec<_> = errors.lines().collect();
    let [cause, remedy] = lines[..] else { panic!("not two lines: {errors}") };
    let (cause, remedy) = (cause.strip_prefix("error: ").unwrap(), remedy.strip_prefix("help: ").unwrap());
    (cause.to_owned(), remedy.to_owned())
}

#[tokio::test]
async fn wrong_settings_are_told_all_at_once() {
    let folder = TempDir::new().unwrap();
    let file = "[broker]\nprefetch = 'many'\n[brocker]\nurl = 'amqp://me:CANARY@host'\n[database]\nurl = 7\n";
    fs::write(folder.path().join("wrong.toml"), file).unwrap();
    for command in [&["run"][..], &["migrate"], &["check"], &["check", "--print"], &["publish", "-"]] {
        let output = alone(&folder)
            .args(command)
            .args(["--config", "wrong.toml", "--set", "limits.max_attempts=none"])
            .env("ROLLCALL_HTTP__LISTEN", "nowhere")
            .env("ROLLCALL_RETRY__NEVER", "1")
            .output()
            .await
            .unwrap();
        let (cause, remedy) = assert_failure(&output, 2);
        for part in [
            "broker.prefetch must be a whole number (wrong.toml)",
            "brocker.url is no setting (wrong.toml)",
            "database.url must be a URL (wrong.toml)",
            "limits.max_attempts must be a whole number (--set limits.max_attempts)",
            "http.listen must be an address like 127.0.0.1:9464 (ROLLCALL_HTTP__LISTEN)",
            "retry.never is no setting (ROLLCALL_RETRY__NEVER)",
        ] {
            assert!(cause.contains(part), "{part} is not in: {cause}");
        }
        assert!(!cause.contains("CANARY") && !remedy.contains("CANARY"), "{cause} {remedy}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[tokio::test]
async fn settings_out_of_range_are_told_all_at_once() {
    let folder = TempDir::new().unwrap();
    let output = alone(&folder)
        .args(["run", "--set", "broker.prefetch=0", "--set", "broker.partitions=0"])
        .env("AMQP_URL", "http://me:CANARY@host")
        .output()
        .await
        .unwrap();
    let (cause, _) = assert_failure(&output, 2);
    for part in ["broker.prefetch must be 1 to 2000", "broker.partitions must be", "broker.url must begin with amqp://"]
    {
        assert!(cause.contains(part), "{part} is not in: {cause}");
    }
    assert!(!cause.contains("CANARY"), "{cause}");
}

#[tokio::test]
async fn what_is_asked_for_wrongly_ends_with_2() {
    let folder = TempDir::new().unwrap();
    for command in [&["rnu"][..], &[], &["run", "--nonsense"], &["publish"], &["check", "extra"]] {
        let output = alone(&folder).args(command).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(text(&output.stdout).is_empty() && !output.stderr.is_empty(), "{command:?}");
    }
    let output = alone(&folder).args(["run", "--config", "missing.toml"]).output().await.unwrap();
    assert!(assert_failure(&output, 2).0.contains("missing.toml"));
    for (command, missing) in [
        (&["run"][..], "database.url is not set"),
        (&["migrate"], "database.url is not set"),
        (&["publish", "-"], "broker.url is not set"),
    ] {
        let output = alone(&folder).args(command).output().await.unwrap();
        let (cause, remedy) = assert_failure(&output, 2);
        assert_eq!(cause, missing);
        assert!(remedy.contains("_URL"), "{remedy}");
    }
    let environment = ("DATABASE_URL", "postgres://localhost/d");
    let output = alone(&folder).arg("run").env(environment.0, environment.1).output().await.unwrap();
    assert_eq!(assert_failure(&output, 2).0, "broker.url is not set");
}

#[tokio::test]
async fn an_http_port_that_is_taken_is_told() {
    let place = Place::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = rollcall(&place, &[("ROLLCALL_HTTP__LISTEN", &address)]).arg("run").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let errors: Vec<_> = errors.lines().collect();
    assert!(errors.iter().any(|line| line.starts_with("error: ") && line.contains(&address)), "{errors:?}");
    assert!(errors.iter().any(|line| line.starts_with("help: ") && line.contains("http.listen")), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_what_is_wrong_and_what_to_do() {
    let place = Place::unmigrated().await;
    let output = rollcall(&place, &[]).arg("check").output().await.unwrap();
    let (cause, _) = assert_failure(&output, 1);
    assert_eq!(cause, "not ready: database");
    let told = text(&output.stdout);
    assert!(told.contains("run rollcall migrate") && told.contains("broker    ok"), "{told}");

    for _ in 0..2 {
        let migrated = rollcall(&place, &[]).arg("migrate").output().await.unwrap();
        assert!(migrated.status.success(), "{}", text(&migrated.stderr));
        assert!(text(&migrated.stdout).starts_with("the schema is up to date"), "{}", text(&migrated.stdout));
    }
    let output = rollcall(&place, &[]).arg("check").output().await.unwrap();
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.lines().filter(|line| line.contains(" ok ")).count(), 3, "{told}");
    assert_eq!(text(&output.stderr), "");

    let output = rollcall(&place, &[]).args(["check", "--json"]).output().await.unwrap();
    assert!(output.status.success());
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<_> = findings.iter().map(|finding| (finding["what"].as_str(), finding["ok"].as_bool())).collect();
    assert_eq!(told, [(Some("settings"), Some(true)), (Some("database"), Some(true)), (Some("broker"), Some(true))]);

    let (database, broker) = (
        Proxy::closed(place.settings.database.url.expose()).await,
        Proxy::closed(place.settings.broker.url.expose()).await,
    );
    let environment = [("DATABASE_URL", database.url()), ("AMQP_URL", broker.url())];
    let output = rollcall(&place, &environment).args(["check", "--json"]).output().await.unwrap();
    let (cause, _) = assert_failure(&output, 1);
    assert_eq!(cause, "not ready: database, broker");
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for finding in &findings[1..] {
        assert_eq!(finding["ok"], false);
        assert!(finding["remedy"].as_str().is_some_and(|remedy| remedy.contains("start ")), "{finding}");
    }
}

#[tokio::test]
async fn the_effective_settings_are_shown_without_secrets() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    let file = "[database]\nurl = 'postgres://me:CANARY-1@host/db?sslpassword=CANARY-2'\n[broker]\nprefix = 'mine'\nprefetch = 700\n";
    fs::write(folder.path().join("config/rollcall.toml"), file).unwrap();
    let print = async |arguments: &[&str]| {
        let mut command = alone(&folder);
        command.args(["check", "--print", "--set", "broker.prefetch=900"]).args(arguments);
        let output = command
            .env("AMQP_URL", "amqp://me:CANARY/3@x@host/v")
            .env("ROLLCALL_BROKER__PREFETCH", "800")
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains("CANARY"), "{told}");
        text(&output.stdout)
    };
    let told = print(&[]).await;
    let (_, broker) = told.split_once("[broker]\n").unwrap();
    for line in ["url = \"amqp://me:***@host/v\"", "prefix = \"mine\"", "prefetch = 900"] {
        assert!(broker.lines().any(|told| told == line), "{line} is not in {told}");
    }
    // What is printed is a settings file again.
    fs::write(folder.path().join("printed.toml"), &told).unwrap();
    let again = print(&["--config", "printed.toml"]).await;
    assert_eq!(told, again);
    let told: Value = serde_json::from_str(&print(&["--json"]).await).unwrap();
    assert_eq!(told["broker"]["prefetch"], 900);
    assert_eq!(told["limits"]["max_clock_skew"], "1day");
    assert_eq!(told["limits"]["store_text"], true);
}

/// The URL with another password.
fn with_password(url: &str, password: &str) -> String {
    let (start, end) = (url.find("://").unwrap() + 3, url.rfind('@').unwrap());
    let user = url[start..end].split(':').next().unwrap();
    format!("{}{user}:{password}{}", &url[..start], &url[end..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_ever_told() {
    const CANARY: &str = "CANARY-0f5e";
    let place = Place::new().await;
    let database = with_password(place.settings.database.url.expose(), CANARY);
    let broker = with_password(place.settings.broker.url.expose(), CANARY);
    for arguments in [&["check"][..], &["check", "--json"], &["migrate"]] {
        let environment = [("DATABASE_URL", database.as_str()), ("AMQP_URL", &broker), ("RUST_BACKTRACE", "1")];
        let output = rollcall(&place, &environment).args(arguments).output().await.unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(!told.contains(CANARY), "{told}");
    }
    let good = (place.settings.database.url.expose(), place.settings.broker.url.expose());
    for (database, broker) in [(database.as_str(), good.1), (good.0, broker.as_str())] {
        let environment = [
            ("DATABASE_URL", database),
            ("AMQP_URL", broker),
            ("RUST_LOG", "trace"),
            ("ROLLCALL_RETRY__FIRST", "10ms"),
        ];
        let replica = Replica::start(&place, &environment);
        eventually("it was refused and tried again", async || {
            let log = replica.log();
            ["waiting for the database", "waiting until the database is set up", "waiting for the broker"]
                .iter()
                .map(|told| log.matches(told).count())
                .sum::<usize>()
                >= 2
        })
        .await;
        let (status, told) = replica.get("/readyz").await;
        assert_eq!(status, 503);
        replica.terminate().await;
        let mut replica = replica;
        assert!(replica.ended().await.success(), "{}", replica.log());
        let log = replica.log();
        let line = log.lines().find(|line| line.contains(CANARY)).unwrap_or_default();
        assert!(line.is_empty() && !told.contains(CANARY), "{line} {told}");
    }
}

/// A folder that the user postgres gets to, and one in it that is not there yet.
fn demo_folder() -> (TempDir, PathBuf) {
    let parent = TempDir::new().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = parent.path().join("demo");
    (parent, folder)
}

fn demo(parent: &TempDir, folder: &Path, events: &str) -> Command {
    let mut command = alone(parent);
    command.args(["demo", "--events", events, "--dir"]).arg(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Processes whose arguments or environment name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let told = processes.filter_map(|process| {
        let line = String::from_utf8_lossy(&fs::read(process.path().join("cmdline")).ok()?).replace('\0', " ");
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let is_of = line.contains(folder) || String::from_utf8_lossy(&environment).contains(folder);
        is_of.then(|| format!("{} {line}", process.file_name().display()))
    });
    told.collect()
}

async fn assert_nothing_is_left(folder: &Path) {
    eventually("no process is left", async || processes_of(folder).is_empty()).await;
    let left: Vec<_> = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(!folder.exists(), "the folder that it made is still there, empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_everything_and_leaves_nothing_behind() {
    let (parent, folder) = demo_folder();
    // Settings of the environment are for other servers: all parts of the demo go without them.
    let running = demo(&parent, &folder, "2000").env("ROLLCALL_BROKER__PARTITIONS", "1").output();
    let output = tokio::time::timeout(DEADLINE, running).await.expect("the demo ends").unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    let line = |start: &str| {
        told.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or_else(|| panic!("no {start} in {told}"))
    };
    assert_eq!(line("events in").split_whitespace().nth(2), Some("2000"), "{told}");
    for start in [
        "duplicates absorbed",
        "bad events",
        "applied in",
        "participants",
        "activity_events",
        "group_metrics",
        "dead_letters",
    ] {
        let figures = line(start).split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        assert!(figures.into_iter().any(|figure| figure > 0.0), "{told}");
    }
    assert_nothing_is_left(&folder).await;
}

/// Interrupts a demo when it has told this.
async fn interrupted_demo(told: &str) {
    let (parent, folder) = demo_folder();
    let log = parent.path().join("log");
    let child = demo(&parent, &folder, "10000").stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    eventually("the demo is that far", async || fs::read_to_string(&log).unwrap().contains(told)).await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.expect("the demo ends").unwrap();
    let log = fs::read_to_string(&log).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("error: stopped by SIGINT\nhelp: "), "{log}");
    assert_nothing_is_left(&folder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_interrupted_while_its_servers_start_leaves_nothing_behind() {
    interrupted_demo("servers: starting PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_is_interrupted_while_it_works_leaves_nothing_behind() {
    interrupted_demo("replicas are working").await;
}
