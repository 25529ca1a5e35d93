//! Another number of partitions while events come in: none is lost, and nothing of the old number is left.

use std::time::Duration;

use rollcall::broker::{self, Publisher, Topology};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{
    Ended, Place, Replica,
    community::{create_org, messages_of, said},
    eventually, management_url, publish_all, rollcall,
};

const ORGS: usize = 12;

async fn partitions(place: &Place, environment: &[(&str, &str)], args: &[&str]) -> Ended {
    Ended::of(rollcall(place, environment).arg("partitions").args(args)).await
}

/// Publishes one event of each organization after the other until told to stop, over one connection, each mandatory
/// and confirmed; returns how many of each.
async fn publish_until(place: &Place, orgs: &[Uuid], stop: CancellationToken) -> u64 {
    let publisher = Publisher::open(&place.settings.broker).await.unwrap();
    let exchange = Topology::new(&place.settings.broker).events_exchange();
    let mut published = 0_u64;
    while !stop.is_cancelled() {
        published += 1;
        let number = i64::try_from(published).unwrap();
        publish_all(&publisher, &exchange, orgs.iter().flat_map(|&org| said(org, number..=number))).await;
    }
    publisher.close().await;
    published
}

async fn applied(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from activity_events").fetch_one(connection).await.unwrap()
}

async fn restarted(place: &Place, running: &mut [Option<Replica>], partitions: &str) {
    for (replica, name) in running.iter_mut().zip(["anna", "bert"]) {
        if let Some(old) = replica.take() {
            old.stop().await;
        }
        let environment = [("ROLLCALL_BROKER__PARTITIONS", partitions), ("ROLLCALL_REPLICA__NAME", name)];
        let new = Replica::start(place, &environment);
        new.ready().await;
        *replica = Some(new);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_partitions_changes_under_load_and_loses_nothing() {
    let Some(url) = management_url() else { return };
    let place = Place::new().await;
    let mut connection = place.connect().await;
    let mut orgs = Vec::new();
    for _ in 0..ORGS {
        orgs.push(create_org(&mut connection).await);
    }
    let mut running = [None, None];
    restarted(&place, &mut running, "4").await;

    let stop = CancellationToken::new();
    let publishing = publish_until(&place, &orgs, stop.clone());
    let changing = async {
        for number in ["8", "3", "1", "4"] {
            restarted(&place, &mut running, number).await;
            let before = applied(&mut connection).await;
            let environment = [("ROLLCALL_BROKER__PARTITIONS", number)];
            let told = partitions(&place, &environment, &["apply"]).await.told();
            assert!(told.contains(&format!("events are routed to {number} partitions")), "{told}");
            let again = partitions(&place, &environment, &["apply"]).await.told();
            assert_eq!(again, told, "doing it again changes nothing");
            let enough = before + 200;
            eventually("events go on", async || applied(&mut place.connect().await).await > enough).await;
        }
        let management = [("ROLLCALL_BROKER__MANAGEMENT_URL", url.as_str()), ("ROLLCALL_BROKER__PARTITIONS", "4")];
        let told = partitions(&place, &management, &["prune"]).await.told();
        let deleted: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("deleted ")).collect();
        let surplus: Vec<_> = (4..8).rev().map(|number| format!("{}.events.{number}", place.name)).collect();
        assert_eq!(deleted, surplus);
        let told = partitions(&place, &management, &["prune"]).await.told();
        assert!(told.contains("nothing is surplus: 4 partitions"), "{told}");
        stop.cancel();
    };
    let (published, ()) = tokio::join!(publishing, changing);

    let all = published * u64::try_from(ORGS).unwrap();
    eventually("every confirmed event is a row", async || {
        u64::try_from(applied(&mut place.connect().await).await).unwrap() == all
    })
    .await;
    for &org in &orgs {
        assert_eq!(messages_of(&place, org).await, published);
    }
    for replica in running.into_iter().flatten() {
        replica.stop().await;
    }
    assert_eq!(place.ready().await, 0);
    let letters: i64 =
        sqlx::query_scalar("select count(*) from dead_letters").fetch_one(&mut connection).await.unwrap();
    assert_eq!(letters, 0);
    place.assert_metrics_recompute().await;
    assert_eq!(broker::inspect(&place.settings.broker).await.unwrap().len(), 5, "four partitions and the dead queue");

    // One event, one queue: no route of one partition is left.
    place.publish_to(&Topology::new(&place.settings.broker).events_exchange(), said(orgs[0], 1..=50)).await;
    eventually("each event is in one queue", async || place.ready().await == 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surplus_queues_are_emptied_by_replicas_and_pruned_by_nobody_else() {
    let Some(url) = management_url() else { return };
    let place = Place::new().await;
    let org = create_org(&mut place.connect().await).await;
    let management =
        |partitions| [("ROLLCALL_BROKER__MANAGEMENT_URL", url.as_str()), ("ROLLCALL_BROKER__PARTITIONS", partitions)];
    place
        .publish((1..=200).flat_map(|number| {
            let spread = move |(_, body)| (format!("key {number}"), body);
            said(org, number..=number).map(spread)
        }))
        .await;

    let (cause, remedy) = partitions(&place, &management("2"), &["prune"]).await.failure(1);
    assert!(cause.contains("still routed to") && remedy.contains("partitions apply"), "{cause} {remedy}");
    let (cause, remedy) = partitions(&place, &[("ROLLCALL_BROKER__PARTITIONS", "2")], &["prune"]).await.failure(1);
    assert!(cause.contains("broker.management_url") && remedy.contains("rabbitmq_management"), "{cause} {remedy}");
    let told = partitions(&place, &[("ROLLCALL_BROKER__PARTITIONS", "2")], &["apply"]).await.told();
    assert!(told.contains(".events.2, ") && told.contains(".events.3;"), "{told}");
    let (cause, remedy) = partitions(&place, &management("2"), &["prune", "--wait", "1s"]).await.failure(1);
    assert!(cause.contains("was not empty within 1s") && remedy.contains("replicas run"), "{cause} {remedy}");

    let checked = Ended::of(rollcall(&place, &management("2")).arg("check")).await.told();
    assert!(checked.contains("2 more than broker.partitions: rollcall partitions apply"), "{checked}");
    let status = Ended::of(rollcall(&place, &management("2")).args(["status"])).await.told();
    assert_eq!(status.matches("(surplus)").count(), 2, "{status}");
    let replica = Replica::start(&place, &[("ROLLCALL_BROKER__PARTITIONS", "2")]);
    eventually("all is applied", async || messages_of(&place, org).await == 200).await;
    assert!(replica.log().contains("more partition queues than the setting says"), "{}", replica.log());
    let told = partitions(&place, &management("2"), &["prune"]).await.told();
    assert_eq!(told.matches("deleted ").count(), 2, "{told}");
    tokio::time::timeout(Duration::from_mins(1), replica.ready()).await.expect("it goes on without them");
    replica.stop().await;
}
