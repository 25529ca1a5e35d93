//! Servers that restart again and again under load, judged by the conformance kit. A program of its own: no other
//! test may need the servers meanwhile.

#[path = "support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with tests/it and tests/chaos, which use the rest")]
mod support;

use std::time::{Duration, Instant};

use rollcall::servers::{PostgresStop, RabbitMqStop, Servers};
use support::{
    DEADLINE, Kit, Place, Replica, eventually, private_servers, proxy::Point, proxy::Proxy, publish_through_outages,
};
use tokio::task::spawn_blocking;

const SEED: u32 = 6;
const EVENTS: u32 = 20_000;
/// Every fifth is the broker's: 20 of the database, 5 of the broker.
const RESTARTS: usize = 25;
/// A quorum queue that is younger may be forgotten by a broker that is killed.
const AGE: Duration = Duration::from_secs(2);

/// As the chaos harness has it: little at once, so that many batches meet a restart.
const SETTINGS: [(&str, &str); 4] = [
    ("ROLLCALL_BROKER__PREFETCH", "50"),
    ("ROLLCALL_BATCH__MAX_EVENTS", "50"),
    ("ROLLCALL_RETRY__FIRST", "20ms"),
    ("ROLLCALL_RETRY__LONGEST", "500ms"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_restarts_of_the_database_and_five_of_the_broker_change_no_row() {
    let Some(servers) = private_servers() else {
        eprintln!("SKIPPED: DATABASE_URL and AMQP_URL name servers, which nobody may restart");
        return;
    };
    let Some(kit) = Kit::generate(SEED, EVENTS).await else { return };
    let place = Place::new().await;
    kit.set_up(&place).await;
    let database = Proxy::to(place.settings.database.url.expose()).await;
    let environment = [&SETTINGS[..], &[("DATABASE_URL", database.url())]].concat();
    let replicas: Vec<_> = (0..3).map(|_| Replica::start(&place, &environment)).collect();
    let bodies = kit.bodies();
    let begun = Instant::now();
    let (mut of_database, mut of_broker) = (Vec::new(), Vec::new());
    for (number, part) in bodies.chunks(bodies.len().div_ceil(RESTARTS)).enumerate() {
        let (before, after) = part.split_at(part.len() / 2);
        let committed = database.seen(Point::Committed);
        let publishing = async {
            tokio::join!(publish_through_outages(&place.settings, before), async {
                eventually("something is committed", async || database.seen(Point::Committed) > committed).await;
                tokio::time::sleep(AGE.saturating_sub(begun.elapsed())).await;
                restart(servers, number).await;
                let since = Instant::now();
                tokio::join!(publish_through_outages(&place.settings, after), async {
                    eventually("something is committed again", async || recovered(&database, since).is_some()).await;
                    let recoveries = if is_of_the_broker(number) { &mut of_broker } else { &mut of_database };
                    recoveries.extend(recovered(&database, since));
                });
            });
        };
        tokio::time::timeout(DEADLINE, publishing).await.expect("published, restarted and recovered from");
    }
    eventually("the queues are empty", async || place.try_ready().await == Some(0)).await;
    for replica in replicas {
        replica.stop().await;
    }
    place.work_off(1, &SETTINGS).await;
    kit.check(&place).await;
    place.assert_metrics_recompute().await;
    for (what, mut recoveries) in [("database", of_database), ("broker", of_broker)] {
        recoveries.sort_unstable();
        let (middle, longest) = (recoveries[recoveries.len() / 2], recoveries[recoveries.len() - 1]);
        eprintln!("{what}: {} restarts, recovered from in {middle:.0?}, at most {longest:.0?}", recoveries.len());
    }
    eprintln!("{EVENTS} events and {RESTARTS} restarts took {:.0?}", begun.elapsed());
}

const fn is_of_the_broker(number: usize) -> bool {
    number % 5 == 4
}

/// From the moment on at which the server took connections again.
fn recovered(database: &Proxy, since: Instant) -> Option<Duration> {
    database.last_seen(Point::Committed).and_then(|at| at.checked_duration_since(since)).filter(|time| !time.is_zero())
}

async fn restart(servers: &'static Servers, number: usize) {
    let restarting = move || {
        if is_of_the_broker(number) {
            servers.stop_rabbitmq([RabbitMqStop::Kill, RabbitMqStop::Graceful][number % 2])?;
            return servers.start_rabbitmq();
        }
        servers.stop_postgres([PostgresStop::Fast, PostgresStop::Immediate, PostgresStop::Kill][number % 3])?;
        servers.start_postgres()
    };
    spawn_blocking(restarting).await.unwrap().unwrap();
}
