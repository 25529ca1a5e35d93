//! The pure rooms by themselves: decode and plan. `cargo bench --bench micro -- --save-baseline before`, then
//! `-- --baseline before`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rollcall::{
    decode::{Event, Fact, Limits, decode},
    plan,
    scenario::{self, Options},
    settings::{Settings, Sources},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// 2026-09-21, before any clock that runs this.
const UNTIL: i64 = 1_790_000_000;

const ORG: Uuid = Uuid::from_u128(0x7d9f_3c0e_3f2b_4f0e_9a57_0c1f_6b1a_2d3e);

fn limits() -> Limits {
    Limits::from(&Settings::load(&Sources::default()).expect("the defaults are sound").limits)
}

fn message() -> Value {
    json!({ "org_id": ORG, "update": { "update_id": 10000, "message": {
        "message_id": 7, "date": UNTIL,
        "chat": { "id": -1_001_234_567_890_i64, "type": "supergroup", "title": "Team" },
        "from": { "id": 42, "is_bot": false, "first_name": "Anna", "last_name": "Müller", "username": "anna", "language_code": "en" },
        "reply_to_message": { "message_id": 5, "date": UNTIL, "chat": { "id": -1_001_234_567_890_i64, "type": "supergroup" } },
        "text": "please check the logs before merging, спасибо 👍 https://example.org",
        "entities": [{ "type": "url", "offset": 50, "length": 19 }],
    } } })
}

fn edit() -> Value {
    let mut event = message();
    let mut edited = event["update"]["message"].take();
    edited["edit_date"] = json!(UNTIL + 60);
    event["update"] = json!({ "update_id": 10001, "edited_message": edited });
    event
}

fn join() -> Value {
    let mut event = message();
    let update = &mut event["update"]["message"];
    update["new_chat_members"] = json!([update["from"], { "id": 43, "is_bot": false, "first_name": "Boris" }]);
    event
}

fn refused() -> Value {
    let mut event = message();
    event["update"]["message"]["date"] = json!("yesterday");
    event
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let with_text = limits();
    let without_text = Limits { store_text: false, ..limits() };
    for (name, event, limits) in [
        ("message", message(), &with_text),
        ("message without text", message(), &without_text),
        ("edit", edit(), &with_text),
        ("join", join(), &with_text),
        ("refused", refused(), &with_text),
    ] {
        let body = event.to_string();
        assert_eq!(decode(body.as_bytes(), limits, UNTIL).is_err(), name == "refused");
        group.throughput(Throughput::Bytes(body.len() as u64));
        // Dropping what was decoded belongs to the work.
        group.bench_function(name, |bencher| {
            bencher.iter(|| drop(decode(black_box(body.as_bytes()), limits, UNTIL)));
        });
    }
}

fn planning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for (events, orgs) in [(500, 1), (500, 100), (1000, 1), (1000, 100)] {
        let facts = facts(events, orgs);
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("{events} events of {orgs} organizations"), |bencher| {
            let input = || facts.iter().map(|(org, fact)| (*org, fact));
            bencher.iter_batched(input, |facts| drop(black_box(plan::Plan::fold(facts))), BatchSize::SmallInput);
        });
    }
}

/// The facts of some events; an update that holds none is replaced by none.
fn facts(events: u64, orgs: usize) -> Vec<(Uuid, Fact<'static>)> {
    let options = Options { orgs, bad: 0.0, bare: 0.0, ..Options::new(events, UNTIL, 1) };
    let mut written = Vec::new();
    scenario::write(&options, &mut written).expect("memory takes it");
    let bodies = written.split(|byte| *byte == b'\n').filter(|body| !body.is_empty());
    let events = bodies.filter_map(|body| decode(body, &limits(), UNTIL).expect("a good event"));
    let facts = |event: Event<'_>| {
        let Event { org, facts } = event.into_owned();
        facts.into_vec().into_iter().map(move |fact| (org.unwrap_or(ORG), fact))
    };
    events.flat_map(facts).collect()
}

criterion_group!(benches, decoding, planning);
criterion_main!(benches);
