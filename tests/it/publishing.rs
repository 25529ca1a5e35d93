//! `rollcall publish`: what it promises to have published is in a queue, byte for byte.

use std::{collections::BTreeSet, process::Output};

use futures_util::{StreamExt as _, future::join_all};
use lapin::{options::BasicConsumeOptions, types::FieldTable};
use rollcall::broker;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use crate::support::{
    Place,
    community::{enveloped, message, said},
    eventually,
    proxy::Proxy,
    publish_through_outages, rollcall,
};

fn file(lines: &[Vec<u8>]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join(&b'\n')).unwrap();
    file
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Takes everything out of the queues: routing keys and bodies, sorted.
async fn take_all(place: &Place) -> Vec<(String, Vec<u8>)> {
    let connection = broker::connect(&place.settings.broker, "test").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut taken = Vec::new();
    for queue in broker::inspect(&place.settings.broker).await.unwrap() {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(queue.name.into(), "".into(), options, FieldTable::default());
        let mut messages = consumer.await.unwrap().take(queue.messages.unwrap() as usize);
        while let Some(message) = messages.next().await {
            let message = message.unwrap();
            taken.push((message.routing_key.to_string(), message.data));
        }
    }
    broker::close(connection).await;
    taken.sort();
    taken
}

fn assert_summary(output: &Output, published: usize) {
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(told.starts_with(&format!("published {published} events in ")), "{told}{errors}");
    assert!(told.ends_with("each confirmed\n") && told.lines().count() == 1, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_published_under_the_organization_of_each_line() {
    let place = Place::new().await;
    let orgs = [Uuid::new_v4(), Uuid::new_v4()];
    let mut expected: Vec<_> = orgs.iter().flat_map(|org| said(*org, 1..=300)).collect();
    // More than the window of unconfirmed ones; the last line has an end, blank ones are passed.
    expected.extend(said(orgs[0], 1_001..=2_000));
    let bodies: Vec<_> = expected.iter().map(|(_, body)| body.clone()).collect();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [&b"\n\n"[..], &bodies.join(&b'\n'), b"\n\n"].concat()).unwrap();
    let output = rollcall(&place, &[]).arg("publish").arg(file.path()).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_summary(&output, 1_600);
    assert_eq!(place.ready().await, 1_600);
    expected.sort();
    assert!(take_all(&place).await == expected, "other bodies or routing keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_is_published() {
    let place = Place::new().await;
    let org = Uuid::new_v4();
    let bodies: Vec<_> = said(org, 1..=20).map(|(_, body)| body).collect();
    let mut child = rollcall(&place, &[])
        .args(["publish", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&bodies.join(&b'\n')).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_summary(&output, 20);
    assert_eq!(take_all(&place).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_lines_are_named_and_not_published() {
    let place = Place::new().await;
    let org = Uuid::new_v4();
    let good = |id| enveloped(org, &message(id, 1, "fine")).1;
    let outside = enveloped(org, &message(0, 1, "no update has this id")).1;
    let lines = [good(1), b"not JSON".to_vec(), good(2), Vec::new(), b"[]".to_vec(), outside, good(3)];
    let output = rollcall(&place, &[]).arg("publish").arg(file(&lines).path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_summary(&output, 3);
    let errors = text(&output.stderr);
    let errors: Vec<_> = errors.lines().collect();
    assert_eq!(errors.len(), 5, "{errors:?}");
    for (line, start) in errors.iter().zip([
        "line 2: malformed_json: ",
        "line 5: invalid_envelope: ",
        "line 6: invalid_event: ",
        "error: 3 lines are no events",
        "help: ",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
    let bodies: BTreeSet<_> = take_all(&place).await.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [good(1), good(2), good(3)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_lines_are_published_as_they_are() {
    let place = Place::new().await;
    let org = Uuid::new_v4();
    let good = enveloped(org, &message(1, 1, "fine"));
    let bodies = [
        good.1.clone(),
        Vec::new(),
        b"  \t".to_vec(),
        b"\xff\xfe\x00binary".to_vec(),
        b"not JSON\r".to_vec(),
        format!(" {{\"org_id\": \"{org}\", \"update\": 1}} ").into_bytes(),
        Vec::new(),
        vec![b'x'; 3 << 20],
    ];
    let output = rollcall(&place, &[]).args(["publish", "--raw"]).arg(file(&bodies).path()).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_summary(&output, bodies.len());
    let taken = take_all(&place).await;
    assert!(taken.contains(&good), "an event keeps its organization as routing key");
    let mut taken: Vec<_> = taken.into_iter().map(|(_, body)| body).collect();
    let mut bodies = bodies.to_vec();
    taken.sort();
    bodies.sort();
    assert!(taken == bodies, "other bytes");
}

/// Cut while lines are sent, while none is, and while the broker does not listen at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_no_line() {
    let place = Place::new().await;
    let org = Uuid::new_v4();
    let broker = Proxy::closed(place.settings.broker.url.expose()).await;
    let environment =
        [("AMQP_URL", broker.url()), ("ROLLCALL_RETRY__FIRST", "10ms"), ("ROLLCALL_RETRY__LONGEST", "300ms")];
    let mut child = rollcall(&place, &environment)
        .args(["publish", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut expected = BTreeSet::new();
    for round in 0..6 {
        for (_, body) in said(org, round * 1_000 + 1..=round * 1_000 + 1_000) {
            stdin.write_all(&[&body[..], b"\n"].concat()).await.unwrap();
            expected.insert(body);
        }
        match round {
            0 => broker.open().await,
            3 => {
                broker.close().await;
                broker.open().await;
            }
            _ => eventually("a connection is cut", async || broker.cut() > 0).await,
        }
    }
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_summary(&output, 6_000);
    let taken: BTreeSet<_> = take_all(&place).await.into_iter().map(|(_, body)| body).collect();
    assert!(taken == expected, "{} distinct bodies arrived", taken.len());
}

/// Each declares the queues. Those that come second find them declared and may publish before their leaders are up: that
/// is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_come_first_together_lose_nothing() {
    let place = Place::new().await;
    let bodies: Vec<Vec<_>> = (0..6).map(|_| (0..20).flat_map(|_| said(Uuid::new_v4(), 1..=3)).collect()).collect();
    let publishing = bodies.iter().map(|bodies| publish_through_outages(&place.settings, bodies));
    assert_eq!(join_all(publishing).await, [60; 6]);
    let taken: BTreeSet<_> = take_all(&place).await.into_iter().collect();
    assert!(taken == bodies.into_iter().flatten().collect(), "{} distinct ones arrived", taken.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_named() {
    let place = Place::new().await;
    let output = rollcall(&place, &[]).args(["publish", "/nowhere/events.ndjson"]).output().await.unwrap();
    assert!([Some(1), Some(2)].contains(&output.status.code()), "{}", output.status);
    let errors = text(&output.stderr);
    let errors: Vec<_> = errors.lines().collect();
    assert!(errors.len() == 2 && errors[0].starts_with("error: ") && errors[1].starts_with("help: "), "{errors:?}");
    assert!(errors[0].contains("/nowhere/events.ndjson"), "{errors:?}");
    assert_eq!(text(&output.stdout), "");
}
