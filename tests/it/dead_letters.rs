//! People see what failed and why, and give letters up or take them back.

use rollcall::broker::Topology;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    Place, Replica,
    community::{create_org, enveloped, message, messages_of, reject_poison, said},
    dead, dead_json, eventually,
};

/// Letters of several kinds: 3 unknown organizations, 2 times the same wrong member, poison, no JSON.
async fn troubles(place: &Place) -> Uuid {
    let mut connection = place.connect().await;
    let org = create_org(&mut connection).await;
    reject_poison(&mut connection).await;
    let wrong = |id: i64| {
        let mut update = message(id, 1, "x");
        update["message"]["chat"]["id"] = json!(0);
        enveloped(org, &update)
    };
    let mut bodies: Vec<_> = (1..=3).map(|id| enveloped(Uuid::new_v4(), &message(id, 1, "x"))).collect();
    bodies.extend([wrong(4), wrong(5), enveloped(org, &message(6, 1, "poison")), ("key".into(), b"{\"a\":".to_vec())]);
    place.publish(bodies).await;
    place.work_off(1, &[]).await;
    org
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_with_the_same_trouble_are_a_group() {
    let place = Place::new().await;
    let org = troubles(&place).await;
    let listing = dead_json(&place, &["list"]).await;
    assert_eq!(listing["letters"], json!([]), "letters only with a filter");
    let told = |group: &Value| {
        let text = |key: &str| group[key].as_str().unwrap_or("-").to_owned();
        let at_fault = [text("path"), text("sqlstate"), text("constraint")].join(" ");
        (
            group["letters"].as_i64().unwrap(),
            group["organizations"].as_i64().unwrap(),
            text("reason"),
            text("kind"),
            at_fault,
        )
    };
    let groups: Vec<_> = listing["groups"].as_array().unwrap().iter().map(told).collect();
    let mut sorted = groups.clone();
    sorted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
    let row = |letters, orgs, reason: &str, kind: &str, at_fault: &str| {
        (letters, orgs, reason.to_owned(), kind.to_owned(), at_fault.to_owned())
    };
    assert_eq!(
        sorted,
        [
            row(3, 3, "unknown_org", "message", "- - -"),
            row(2, 1, "invalid_event", "-", "chat.id - -"),
            row(1, 1, "database_rejected", "message", "- 23514 no_poison"),
            row(1, 0, "malformed_json", "-", "- - -"),
        ]
    );
    assert_eq!(groups[0].0, 3, "the largest first");

    let group = listing["groups"][0]["group"].as_str().unwrap();
    let letters = dead_json(&place, &["list", "--group", group]).await["letters"].clone();
    assert_eq!(letters.as_array().unwrap().len(), 3);
    for (filter, expected) in [
        (vec!["--reason", "invalid_event", "--reason", "malformed_json"], 3),
        (vec!["--org", &org.to_string()], 3),
        (vec!["--since", "1h"], 7),
        (vec!["--until", "2020-01-01T00:00:00Z"], 0),
        (vec!["--since", "1h", "--limit", "2"], 2),
        (vec!["--status", "discarded"], 0),
        (vec!["--id", &letters[0]["id"].to_string()], 1),
    ] {
        let letters = dead_json(&place, &[&["list"], &filter[..]].concat()).await["letters"].clone();
        assert_eq!(letters.as_array().unwrap().len(), expected, "{filter:?}");
    }
    let told = dead(&place, &["list"]).await.told();
    assert!(told.lines().nth(1).unwrap().contains("unknown_org"), "{told}");
    assert!(!told.contains("Organization"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_ids_stay_exact() {
    let place = Place::new().await;
    sqlx::raw_sql("alter table dead_letters alter column id restart with 9223372036854775807")
        .execute(&mut place.connect().await)
        .await
        .unwrap();
    place.publish([("key".into(), b"9223372036854775807 no object".to_vec())]).await;
    place.work_off(1, &[]).await;
    let id = "9223372036854775807";
    for args in [&["list", "--json", "--id", id][..], &["show", "--json", id], &["show", id]] {
        let told = dead(&place, args).await.told();
        assert!(told.contains(id), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_is_shown_safely_and_kept_exactly() {
    let place = Place::new().await;
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) - 8));
    let bodies = [
        Vec::new(),
        long.into_bytes(),
        b"\x00\x01\xff\xfe binary \x00".to_vec(),
        b"<script>alert(1)</script>\x1b]0;owned\x07\x1b[2J\xc2\x9b31m".to_vec(),
        "{\"update_id\":\"\u{202e}evil\u{7f}\u{200f}\",\"n\":12345678901234567890123}".as_bytes().to_vec(),
    ];
    place.publish(bodies.iter().map(|body| ("k\u{1b}[31mey".to_owned(), body.clone()))).await;
    place.work_off(1, &[]).await;
    let query = sqlx::query_as("select id, body from dead_letters order by id");
    let letters: Vec<(i64, Vec<u8>)> = query.fetch_all(&mut place.connect().await).await.unwrap();
    assert_eq!(letters.len(), bodies.len());
    for (id, body) in letters {
        assert!(bodies.contains(&body));
        let id = id.to_string();
        assert_eq!(dead(&place, &["show", &id, "--raw"]).await.stdout, body);
        for args in
            [&["show", id.as_str()][..], &["show", &id, "--full"], &["show", &id, "--json"], &["list", "--id", &id]]
        {
            let told = dead(&place, args).await.told();
            let harmful = told.chars().find(|c| {
                (c.is_control() && *c != '\n') || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            });
            assert_eq!(harmful, None, "{args:?} {told:.2000}");
        }
        let shown = dead_json(&place, &["show", &id]).await;
        match std::str::from_utf8(&body) {
            Ok(text) => assert_eq!(shown["body"].as_str(), Some(text)),
            Err(_) => assert_eq!(shown["body_hex"].as_str().unwrap().len(), body.len() * 2),
        }
    }
    assert_eq!(dead(&place, &["show", "4242"]).await.failure(1).0, "there is no letter 4242");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discarded_letters_are_kept_and_can_be_taken_back() {
    let place = Place::new().await;
    troubles(&place).await;
    assert!(dead(&place, &["discard", "--yes"]).await.failure(2).0.contains("needs a filter"));
    let refused = dead(&place, &["discard", "--reason", "unknown_org"]).await.failure(2);
    assert!(refused.0.contains("3 letters") && refused.1.contains("--yes"), "{refused:?}");
    let count = async |status: &str| {
        let listing = dead_json(&place, &["list", "--status", status]).await;
        listing["groups"].as_array().unwrap().iter().map(|group| group["letters"].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!((count("parked").await, count("discarded").await), (7, 0));
    let discard = ["discard", "--reason", "unknown_org", "--yes", "--by", "Zoe", "--note", "test tenants"];
    assert_eq!(dead(&place, &discard).await.told(), "discarded 3 letters\n");
    assert_eq!((count("parked").await, count("discarded").await), (4, 3));
    assert_eq!(dead(&place, &discard).await.told(), "no such letters\n");
    let id = dead_json(&place, &["list", "--status", "discarded"]).await["letters"][0]["id"].to_string();
    assert_eq!(dead(&place, &["restore", "--id", &id, "--yes", "--by", "Max"]).await.told(), "restored 1 letters\n");
    assert_eq!((count("parked").await, count("discarded").await), (5, 2));
    let shown = dead_json(&place, &["show", &id]).await;
    let history: Vec<_> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| [&entry["what"], &entry["who"]].map(|v| v.as_str().unwrap()))
        .collect();
    assert_eq!(history, [["arrived", "rollcall"], ["discarded", "Zoe"], ["restored", "Max"]]);
    assert_eq!(shown["history"][1]["detail"], "test tenants");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolved_letters_are_forgotten_and_parked_ones_stay() {
    let place = Place::new().await;
    troubles(&place).await;
    assert!(dead(&place, &["discard", "--reason", "unknown_org", "--yes"]).await.status.success());
    let left = async || -> (i64, i64) {
        let query = sqlx::query_as("select count(*) filter (where status = 'parked'), count(*) from dead_letters");
        query.fetch_one(&mut place.connect().await).await.unwrap()
    };
    let replica = Replica::start(&place, &[]);
    eventually("it has swept", async || replica.metric("rollcall_info").await > 0.0).await;
    assert_eq!(left().await, (4, 7), "90 days are not over");
    replica.stop().await;
    let quick = [("ROLLCALL_DEAD_LETTERS__KEEP", "0s"), ("ROLLCALL_DEAD_LETTERS__SWEEP_INTERVAL", "50ms")];
    let replica = Replica::start(&place, &quick);
    eventually("they are gone", async || left().await == (4, 4)).await;
    eventually("it is told", async || replica.metric("rollcall_dead_letters_expired_total").await > 2.5).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_letters_say_what_they_like_and_are_trusted_in_nothing() {
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let exchange = Topology::new(&place.settings.broker).dead_exchange();
    rollcall::broker::declare(&place.settings.broker).await.unwrap();
    place.publish_to(&exchange, said(org, 1..=1)).await;
    place.work_off(1, &[]).await;
    let listing = dead_json(&place, &["list", "--reason", "foreign"]).await;
    let id = listing["letters"][0]["id"].to_string();
    let shown = dead_json(&place, &["show", &id]).await;
    assert_eq!((shown["reason"].as_str(), shown["org_id"].as_str()), (Some("foreign"), Some(org.to_string().as_str())));
    assert!(shown["meaning"].as_str().unwrap().contains("something else than rollcall"));
    let replica = Replica::start(&place, &[]);
    assert!(dead(&place, &["replay", "--yes", "--reason", "foreign"]).await.status.success());
    replica.stop().await;
    assert_eq!(messages_of(&place, org).await, 1);
}
