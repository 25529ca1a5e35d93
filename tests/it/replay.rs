//! Letters are replayed without fear: what a replay changes is known before, and nothing is lost or counted twice, however
//! often it is begun, interrupted or done at once.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::support::{
    Kit, Place, Replica,
    community::{CHAT, Merge, create_org, enveloped, message, messages_of, said},
    dead, dead_json, eventually,
    proxy::{Action, Point, Proxy},
    rollcall,
};

/// Events of an organization that does not exist, as letters.
async fn homeless(place: &Place, update_ids: std::ops::RangeInclusive<i64>) -> Uuid {
    let org = Uuid::new_v4();
    place.publish(said(org, update_ids)).await;
    place.work_off(1, &[]).await;
    org
}

async fn create(place: &Place, org: Uuid) {
    let query = sqlx::query("insert into organizations (id, name) values ($1, 'Late')").bind(org);
    query.execute(&mut place.connect().await).await.unwrap();
}

async fn parked(place: &Place) -> i64 {
    let query = sqlx::query_scalar("select count(*) from dead_letters where status = 'parked'");
    query.fetch_one(&mut place.connect().await).await.unwrap()
}

/// Everything that is stored, where it lies on disk, and by which transaction it was written.
async fn bytes_of(place: &Place) -> Vec<String> {
    let mut connection = place.connect().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('select %L || ctid || xmin || t::text from %I t', relname, relname) from pg_class
         where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut rows = Vec::new();
    for query in tables {
        let found: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
        rows.extend(found);
    }
    let sequences = "select sequencename || coalesce(last_value, 0) from pg_sequences order by 1";
    rows.extend(sqlx::query_scalar::<_, String>(sequences).fetch_all(&mut connection).await.unwrap());
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_changes_nothing_and_predicts_the_report() {
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let (org, late, never) = (create_org(&mut connection).await, Uuid::new_v4(), Uuid::new_v4());
    let mut other = message(1, 1, "bare");
    other["message"]["chat"]["id"] = json!(-42);
    let mut edit = message(12, 4, "edited");
    edit["edited_message"] = edit["message"].take();
    edit["edited_message"]["message_id"] = json!(3);
    edit["edited_message"]["edit_date"] = json!(1_767_270_000);
    edit.as_object_mut().unwrap().remove("message");
    let mut spaced = enveloped(late, &message(5, 6, "hello"));
    spaced.1.push(b' ');
    let mut bodies: Vec<_> = said(late, 1..=10).collect();
    bodies.extend([spaced, enveloped(late, &edit), enveloped(never, &message(1, 1, "x"))]);
    bodies.push(("free".into(), other.to_string().into_bytes()));
    bodies.push(("key".into(), b"no json".to_vec()));
    place.publish(bodies).await;
    place.work_off(1, &[]).await;
    // Something without a fact, parked by somebody.
    let exchange = rollcall::broker::Topology::new(&place.settings.broker).dead_exchange();
    place.publish_to(&exchange, [enveloped(org, &json!({ "update_id": 77 }))]).await;
    place.work_off(1, &[]).await;
    assert_eq!(parked(&place).await, 16);
    // The organization and the chat come late, and four of its events have been applied meanwhile.
    create(&place, late).await;
    let mapping = "insert into org_telegram_groups (org_id, tg_chat_id, status) values ($1, -42, 'active')";
    sqlx::query(mapping).bind(org).execute(&mut connection).await.unwrap();
    let again = said(late, 1..=4).map(|(key, mut body)| {
        body.push(b'\n');
        (key, body)
    });
    place.publish(again).await;
    place.work_off(1, &[]).await;

    let before = bytes_of(&place).await;
    let predicted = dead_json(&place, &["replay", "--dry-run"]).await;
    assert_eq!(bytes_of(&place).await, before);
    let count = |key: &str| predicted[key].as_u64().unwrap();
    assert_eq!(count("applied"), 6 + 1 + 1, "{predicted}");
    assert_eq!((count("already_applied"), count("ignored"), count("refused")), (5, 1, 2), "{predicted}");
    assert_eq!(predicted["tables"]["activity_events"], json!({ "inserted": 7, "updated": 1, "unchanged": 3 }));
    assert_eq!(predicted["tables"]["org_telegram_groups"]["inserted"], 0);
    let told = dead(&place, &["replay", "--dry-run"]).await.told();
    assert!(told.contains("8  applied") && told.contains("would stop at the first letter"), "{told}");

    let replica = Replica::start(&place, &[]);
    let reported = dead_json(&place, &["replay", "--yes", "--keep-going"]).await;
    replica.stop().await;
    for key in ["letters", "applied", "already_applied", "ignored", "refused", "skipped"] {
        assert_eq!(reported[key], predicted[key], "{key}: {reported}");
    }
    let whys = |report: &Value| -> BTreeSet<String> {
        report["refusals"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refusals| refusals["why"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(whys(&reported), whys(&predicted));
    assert_eq!((messages_of(&place, late).await, messages_of(&place, org).await, parked(&place).await), (10, 1, 2));
    place.assert_metrics_recompute().await;
}

/// Sessions that wait for an organization's resolver lock.
async fn waiting_for_lock(place: &Place) -> i64 {
    let query = sqlx::query_scalar(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())",
    );
    query.fetch_one(&mut place.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_that_waits_for_a_dry_run_does_not_change_what_it_says() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=20).await;
    create(&place, org).await;
    let merge = Merge::begin(&place, org).await;
    let predicting = dead_json(&place, &["replay", "--dry-run"]);
    let merging = async {
        eventually("the dry run waits", async || waiting_for_lock(&place).await == 1).await;
        let second = Merge::begin(&place, org);
        let ending = async {
            eventually("a merge waits behind it", async || waiting_for_lock(&place).await == 2).await;
            merge.end().await;
        };
        tokio::join!(second, ending).0.end().await;
    };
    let (predicted, ()) = tokio::join!(predicting, merging);
    assert_eq!(
        (predicted["applied"].as_u64(), predicted["already_applied"].as_u64()),
        (Some(20), Some(0)),
        "{predicted}"
    );
    assert_eq!(predicted["tables"]["activity_events"]["inserted"], 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_while_the_broker_is_away_ends_it() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=3).await;
    create(&place, org).await;
    let proxy = Proxy::to(place.settings.broker.url.expose()).await;
    let trap = proxy.arm(Point::Publish, 1, Action::Swallow);
    let mut command = rollcall(&place, &[("AMQP_URL", proxy.url())]);
    command.args(["dead", "replay", "--yes", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    trap.sprung().await;
    interrupt(&running).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), running.wait_with_output()).await;
    let output = ended.expect("it ends before a confirm is given up").unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["stopped"].as_str(), report["waiting"].as_u64()), (Some("interrupted"), Some(3)), "{report}");
    assert_eq!((place.ready().await, parked(&place).await), (0, 3));
}

/// Ctrl-C.
async fn interrupt(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_applied_meanwhile_changes_no_row() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=700).await;
    create(&place, org).await;
    place.publish(said(org, 1..=700).map(|(key, body)| (key, [body, b" ".to_vec()].concat()))).await;
    place.work_off(1, &[]).await;
    let rows =
        async || place.contents().await.into_iter().filter(|row| !row.starts_with("dead_letters")).collect::<Vec<_>>();
    let before = rows().await;
    let replica = Replica::start(&place, &[]);
    let reported = dead_json(&place, &["replay", "--yes"]).await;
    eventually("the queues are empty", async || place.ready().await == 0).await;
    replica.stop().await;
    assert_eq!(
        (reported["already_applied"].as_u64(), reported["applied"].as_u64()),
        (Some(700), Some(0)),
        "{reported}"
    );
    assert_eq!(rows().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stops_at_the_first_that_is_refused_again_and_can_go_on() {
    let place = Place::new().await;
    homeless(&place, 1..=30).await;
    let mended = homeless(&place, 101..=130).await;
    create(&place, mended).await;
    let replica = Replica::start(&place, &[]);
    let stopped = dead(&place, &["replay", "--yes"]).await;
    let (cause, remedy) = stopped.failure(1);
    assert!(cause.contains("a letter was refused again, 59 are to go"), "{cause}");
    assert!(remedy.contains("rollcall dead replay --resume 1"), "{remedy}");
    assert!(dead(&place, &["list"]).await.told().contains("has 59 letters to go: rollcall dead replay --resume 1"));
    let done = dead(&place, &["replay", "--resume", "1", "--keep-going", "--json"]).await;
    let report = done.json();
    assert_eq!((report["applied"].as_u64(), report["refused"].as_u64()), (Some(30), Some(30)), "{report}");
    assert!(done.failure(1).0.contains("30 letters were refused again"));
    assert_eq!(dead_json(&place, &["list"]).await["unfinished_replays"], json!([]));
    replica.stop().await;
    assert_eq!((messages_of(&place, mended).await, parked(&place).await), (30, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_worker_it_says_so_and_is_taken_up_later() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=5).await;
    create(&place, org).await;
    let (cause, remedy) = dead(&place, &["replay", "--yes", "--wait", "300ms"]).await.failure(1);
    assert!(cause.contains("nothing became of 1 published letters within 300ms"), "{cause}");
    assert!(remedy.contains("rollcall run") && remedy.contains("--resume 1"), "{remedy}");
    let replica = Replica::start(&place, &[]);
    let report = dead_json(&place, &["replay", "--resume", "1"]).await;
    assert_eq!(report["applied"].as_u64(), Some(5), "{report}");
    assert!(dead(&place, &["replay", "--resume", "7"]).await.failure(1).0.contains("there is no replay 7"));
    assert_eq!(dead(&place, &["replay", "--yes"]).await.told(), "no parked letters to replay\n");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_without_a_terminal() {
    let place = Place::new().await;
    homeless(&place, 1..=5).await;
    let (cause, remedy) = dead(&place, &["replay"]).await.failure(2);
    assert!(
        cause.contains("replay 5 letters") && cause.contains("no terminal") && remedy.contains("--yes"),
        "{cause} {remedy}"
    );
    assert_eq!((place.ready().await, parked(&place).await), (0, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_cannot_be_published_is_skipped_and_blocks_nobody() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=9).await;
    create(&place, org).await;
    let longer = "update dead_letters set routing_key = repeat('x', 256) where id = (select min(id) from dead_letters)";
    sqlx::query(longer).execute(&mut place.connect().await).await.unwrap();
    let replica = Replica::start(&place, &[]);
    let report = dead_json(&place, &["replay", "--yes"]).await;
    replica.stop().await;
    assert_eq!((report["applied"].as_u64(), report["skipped"].as_u64()), (Some(8), Some(1)), "{report}");
    assert!(report["skips"][0]["why"].as_str().unwrap().contains("routing key"), "{report}");
    assert_eq!(parked(&place).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_the_process_does_not_end_the_replay() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let bodies = [enveloped(org, &message(1, 1, "this body ends the process")), enveloped(org, &message(2, 1, "fine"))];
    let park = "insert into dead_letters (reason, routing_key, org_id, body) select 'quarantined', $1, $2, b from unnest($3::bytea[]) b";
    let bodies: Vec<_> = bodies.into_iter().map(|(_, body)| body).collect();
    let query = sqlx::query(park).bind(org.to_string()).bind(org).bind(bodies);
    query.execute(&mut place.connect().await).await.unwrap();
    let replica = Replica::start(&place, &[]);
    let bug = [("ROLLCALL_TEST_BUG", "crashing-body")];
    let dry = rollcall(&place, &bug).args(["dead", "replay", "--dry-run", "--json"]).output().await.unwrap();
    let report: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!((report["applied"].as_u64(), report["skipped"].as_u64()), (Some(1), Some(1)), "{report}");
    let done = rollcall(&place, &bug).args(["dead", "replay", "--yes", "--json"]).output().await.unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((report["applied"].as_u64(), report["skipped"].as_u64()), (Some(1), Some(1)), "{report}");
    assert!(report["skips"][0]["why"].as_str().unwrap().contains("ends the process"), "{report}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_keys_are_published_exactly() {
    let place = Place::new().await;
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) - 8)).into_bytes(),
        b"\x00\xff binary \x00".to_vec(),
        b"<b>\x1b[31m".to_vec(),
    ];
    place.publish(bodies.iter().map(|body| ("a key".to_owned(), body.clone()))).await;
    place.work_off(1, &[]).await;
    let letters = async || -> Vec<(Vec<u8>, String, String)> {
        let query = sqlx::query_as("select body, routing_key, reason from dead_letters order by id");
        query.fetch_all(&mut place.connect().await).await.unwrap()
    };
    let before = letters().await;
    let replica = Replica::start(&place, &[]);
    let report = dead_json(&place, &["replay", "--yes", "--keep-going"]).await;
    replica.stop().await;
    assert_eq!(report["refused"].as_u64(), Some(4), "{report}");
    assert_eq!(letters().await, before, "each is the same row again");
    let attempts: Vec<i32> =
        sqlx::query_scalar("select attempts from dead_letters").fetch_all(&mut place.connect().await).await.unwrap();
    assert_eq!(attempts, [2; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_stops_it_between_letters() {
    let place = Place::new().await;
    let org = homeless(&place, 1..=200).await;
    create(&place, org).await;
    let replica = Replica::start(&place, &[]);
    let mut command = rollcall(&place, &[]);
    command.args(["dead", "replay", "--yes", "--rate", "5", "--json"]).stdout(Stdio::piped());
    let running = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("some are applied", async || messages_of(&place, org).await > 2).await;
    interrupt(&running).await;
    let output = running.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |report: &Value, key: &str| report[key].as_u64().unwrap();
    assert_eq!(report["stopped"], "interrupted");
    assert!(count(&report, "applied") > 0 && count(&report, "waiting") > 0, "{report}");
    let report = dead_json(&place, &["replay", "--resume", "1"]).await;
    assert_eq!((count(&report, "applied"), count(&report, "waiting")), (200, 0), "{report}");
    replica.stop().await;
    assert_eq!((messages_of(&place, org).await, parked(&place).await), (200, 0));
}

/// Begins replays, two at once, and kills them at random points; then finishes.
async fn replay_and_kill(place: &Place, kills: u32, longest: Duration) {
    let mut killed = 0;
    while killed < kills {
        let start = |args: &'static [&'static str]| {
            let mut command = rollcall(place, &[]);
            command.args(["dead", "replay", "--yes", "--keep-going"]).args(args);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let mut running = [start(&["--rate", "100"]), start(&["--rate", "50"])];
        tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
        for replay in &mut running {
            if replay.try_wait().unwrap().is_none() {
                replay.kill().await.unwrap();
                killed += 1;
            }
        }
        assert!(parked(place).await > 0, "the letters ran out after {killed} kills");
    }
    loop {
        let unfinished = dead_json(place, &["list"]).await["unfinished_replays"].clone();
        let Some(id) = unfinished.as_array().unwrap().first().map(|replay| replay["id"].to_string()) else { break };
        let report = dead_json(place, &["replay", "--keep-going", "--resume", &id]).await;
        assert_eq!(report["stopped"], "finished", "{report}");
    }
    dead_json(place, &["replay", "--yes", "--keep-going"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_concurrent_replays_end_every_letter_once() {
    const LETTERS: i64 = 3000;
    let place = Place::new().await;
    let org = homeless(&place, 1..=LETTERS).await;
    create(&place, org).await;
    let replica = Replica::start(&place, &[]);
    replica.ready().await;
    replay_and_kill(&place, 50, Duration::from_millis(800)).await;
    eventually("the queues are empty", async || place.ready().await == 0).await;
    replica.stop().await;
    assert_eq!(messages_of(&place, org).await, LETTERS.unsigned_abs());
    let states: Vec<(String, i64)> = sqlx::query_as("select status, count(*) from dead_letters group by 1")
        .fetch_all(&mut place.connect().await)
        .await
        .unwrap();
    assert_eq!(states, [("replayed".to_owned(), LETTERS)]);
    place.assert_metrics_recompute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kit_agrees_after_killed_replays() {
    let Some(kit) = Kit::generate(61, 8000).await else { return };
    let place = Place::new().await;
    // Nobody is there yet: all that could be applied is refused.
    place.publish(kit.bodies()).await;
    place.work_off(1, &[]).await;
    kit.set_up(&place).await;
    let replica = Replica::start(&place, &[]);
    replica.ready().await;
    replay_and_kill(&place, 50, Duration::from_millis(800)).await;
    eventually("the queues are empty", async || place.ready().await == 0).await;
    replica.stop().await;
    kit.check(&place).await;
    place.assert_metrics_recompute().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unmapped_chats_heal() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let mut update = message(1, 1, "hello");
    update["message"]["chat"]["id"] = json!(CHAT - 1);
    place.publish([("free".to_owned(), update.to_string().into_bytes())]).await;
    place.work_off(1, &[]).await;
    let group = dead_json(&place, &["list"]).await["groups"][0]["group"].as_str().unwrap().to_owned();
    let mapping = "insert into org_telegram_groups (org_id, tg_chat_id, status) values ($1, $2, 'active')";
    sqlx::query(mapping).bind(org).bind(CHAT - 1).execute(&mut place.connect().await).await.unwrap();
    let replica = Replica::start(&place, &[]);
    let report = dead_json(&place, &["replay", "--yes", "--group", &group]).await;
    replica.stop().await;
    assert_eq!(report["applied"].as_u64(), Some(1), "{report}");
    assert_eq!((messages_of(&place, org).await, parked(&place).await), (1, 0));
}
