//! `rollcall status` shows what the broker has, and says what it cannot know.

use rollcall::{
    broker::{self, Topology},
    consume::priority,
};
use serde_json::Value;

use crate::support::{
    Ended, Place, Replica, community::create_org, community::said, eventually, management_url, private_servers,
    rollcall,
};

async fn status(place: &Place, environment: &[(&str, &str)], args: &[&str]) -> Ended {
    Ended::of(rollcall(place, environment).arg("status").args(args)).await
}

fn partitions(told: &Value) -> &[Value] {
    told["partitions"].as_array().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_management_api_it_shows_what_amqp_tells() {
    let place = Place::new().await;
    let told = status(&place, &[], &[]).await.told();
    assert!(told.contains("4 queues are not there yet") && told.contains("broker.management_url"), "{told}");
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, 1..=7)).await;

    let told = status(&place, &[], &["--json"]).await.json();
    assert_eq!((&told["management"], &told["partitions_set"]), (&"off".into(), &4.into()));
    assert_eq!(partitions(&told).len(), 4);
    for (number, partition) in partitions(&told).iter().enumerate() {
        assert_eq!(partition["partition"], number);
        assert_eq!(partition["queue"], format!("{}.events.{number}", place.name));
        assert_eq!((&partition["consumers"], &partition["surplus"]), (&0.into(), &false.into()));
        for unknown in ["unacked", "publish_per_second", "ack_per_second", "preferred_replica", "replicas"] {
            assert!(partition[unknown].is_null(), "{unknown}: {partition}");
        }
    }
    assert_eq!((&told["total"]["ready"], &told["dead"]["ready"]), (&7.into(), &0.into()));
    assert!(told["total"]["drain_seconds"].is_null());

    let table = status(&place, &[], &[]).await.told();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("QUEUE") && lines[5].starts_with("all events"), "{table}");
    assert_eq!(lines[5].split_whitespace().nth(2), Some("7"), "{table}");
}

/// The broker says 0 of a queue that does not answer it in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_busy_is_not_shown_as_empty() {
    let Some(servers) = private_servers() else {
        eprintln!("SKIPPED: needs a broker whose processes may be suspended");
        return;
    };
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    place.publish(said(org, 1..=7)).await;
    let queues: Vec<_> = Topology::new(&place.settings.broker).event_queues().collect();
    let names = queues.iter().map(|queue| format!("<<\"{queue}\">>")).collect::<Vec<_>>().join(", ");
    let suspend = format!(
        "[begin {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, Name)), \
         {{Leader, _}} = amqqueue:get_pid(Queue), ok = sys:suspend(Leader), \
         spawn(fun() -> timer:sleep(2000), sys:resume(Leader) end) end || Name <- [{names}]]."
    );
    tokio::task::spawn_blocking(move || servers.rabbitmqctl(&["eval", &suspend])).await.unwrap().unwrap();
    let told = status(&place, &[], &["--json"]).await;
    assert_eq!(told.json()["total"]["ready"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_partition_prefers_the_replica_that_the_priorities_say() {
    let Some(url) = management_url() else { return };
    let place = Place::new().await;
    let names = ["anna", "bert"];
    let management = [("ROLLCALL_BROKER__MANAGEMENT_URL", url.as_str())];
    let mut replicas = Vec::new();
    for name in names {
        let replica = Replica::start(&place, &[("ROLLCALL_REPLICA__NAME", name)]);
        replica.ready().await;
        replicas.push(replica);
    }
    eventually("the broker has counted the consumers", async || {
        let told = status(&place, &management, &["--json"]).await.json();
        partitions(&told).iter().all(|partition| partition["replicas"].as_array().is_some_and(|all| all.len() == 2))
    })
    .await;
    let told = status(&place, &management, &["--json"]).await.json();
    assert_eq!(told["management"], "ok");
    for (number, partition) in partitions(&told).iter().enumerate() {
        let preferred = names.into_iter().max_by_key(|name| priority(name, number)).unwrap();
        assert_eq!(partition["preferred_replica"], preferred, "{partition}");
        assert_eq!(partition["consumers"], 2);
        for shown in partition["replicas"].as_array().unwrap() {
            assert_eq!(shown["priority"], priority(shown["replica"].as_str().unwrap(), number));
        }
    }
    let table = status(&place, &management, &[]).await.told();
    let first = names.into_iter().max_by_key(|name| priority(name, 0)).unwrap();
    assert!(table.lines().nth(1).unwrap().ends_with(first), "{table}");

    // Nothing is settled while no row can be written, so that what is delivered stays so.
    let org = create_org(&mut place.connect().await).await;
    let mut roadblock = place.connect().await;
    sqlx::raw_sql("begin; lock table org_telegram_groups in exclusive mode").execute(&mut roadblock).await.unwrap();
    place.publish(said(org, 1..=300)).await;
    eventually("what is delivered counts as unacked", async || {
        let told = status(&place, &management, &["--json"]).await.json();
        told["total"]["ready"] == 0 && told["total"]["unacked"] == 300
    })
    .await;
    sqlx::raw_sql("commit").execute(&mut roadblock).await.unwrap();
    eventually("nothing is left, and nothing takes no time", async || {
        let told = status(&place, &management, &["--json"]).await.json();
        told["total"]["unacked"] == 0
            && told["total"]["drain_seconds"] == 0.0
            && told["total"]["ack_per_second"].is_f64()
    })
    .await;
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_management_api_that_fails_is_told_beside_what_amqp_tells() {
    const CANARY: &str = "CANARY";
    let place = Place::new().await;
    broker::declare(&place.settings.broker).await.unwrap();
    let mut urls = vec![format!("http://me:{CANARY}@127.0.0.1:1/")];
    if let Some(url) = management_url() {
        let (_, address) = url.rsplit_once('@').unwrap();
        urls.push(format!("http://me:{CANARY}@{address}"));
        // TLS where there is none.
        urls.push(format!("https://me:{CANARY}@{address}"));
    }
    for url in urls {
        let environment = [("ROLLCALL_BROKER__MANAGEMENT_URL", url.as_str())];
        let ended = status(&place, &environment, &["--json"]).await;
        let (cause, remedy) = ended.failure(1);
        assert!(cause.contains("management API") && remedy.contains("broker.management_url"), "{cause} {remedy}");
        assert_eq!((&ended.json()["management"], &ended.json()["total"]["ready"]), (&"failed".into(), &0.into()));
        assert!(!String::from_utf8_lossy(&ended.stderr).contains(CANARY));
    }
    let environment = [("ROLLCALL_BROKER__MANAGEMENT_URL", "ftp://me:CANARY@host")];
    let (cause, _) = status(&place, &environment, &[]).await.failure(2);
    assert!(cause.contains("broker.management_url") && !cause.contains(CANARY), "{cause}");
}
