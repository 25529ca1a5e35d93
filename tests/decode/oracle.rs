//! Decode against the conformance kit's reference, body by body and value by value.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastrand::Rng;
use rollcall::decode::{Fact, Reason, What, decode, org_of};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    body::{DAY, MAX_BODY_BYTES, NOW, limits, shown},
    facts, invalid_envelope, invalid_event, malformed,
    mutation::{changed, damaged, rewritten, valid},
    precedence, values,
};

const SEED: u64 = 99;
const EVENTS: usize = 3_000;
const MUTATIONS: usize = 6_000;

#[derive(Deserialize)]
struct Answer {
    verdict: Value,
    /// The kit is known to be lax here; decode may refuse instead.
    is_excused: bool,
}

/// The kit beside this repository, or why it cannot be asked.
fn kit() -> Result<PathBuf, String> {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance");
    if !kit.join("check.py").is_file() {
        return Err(format!("there is no {}", kit.join("check.py").display()));
    }
    match Command::new("python3").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(kit),
        Ok(output) => Err(format!("python3 --version: {}", output.status)),
        Err(error) => Err(format!("python3: {error}")),
    }
}

fn python(arguments: &[&str]) -> String {
    let output =
        Command::new("python3").args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output().expect("python3 starts");
    assert!(output.status.success(), "python3 {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn generated(kit: &Path, scratch: &Path) -> Vec<Vec<u8>> {
    python(&[
        path(&kit.join("generate.py")),
        path(scratch),
        "--events",
        &EVENTS.to_string(),
        "--seed",
        &SEED.to_string(),
    ]);
    let lines = fs::read(scratch.join("events.ndjson")).expect("the kit's events");
    lines.strip_suffix(b"\n").expect("a last newline").split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// Every body that the other tests use.
fn vectors() -> Vec<Vec<u8>> {
    let tables = [
        malformed::too_large(),
        malformed::not_utf8(),
        malformed::not_json(),
        malformed::truncated(),
        malformed::too_deep(),
        malformed::deep_enough(),
        invalid_envelope::neither_envelope_nor_bare(),
        invalid_envelope::wrong_org_ids(),
        invalid_envelope::wrong_updates(),
        invalid_envelope::wrong_update_ids(),
        invalid_envelope::wrong_kinds(),
        invalid_envelope::wrong_chats(),
        invalid_envelope::wrong_ids_and_dates(),
        invalid_envelope::wrong_users(),
        invalid_envelope::wrong_members(),
        invalid_envelope::wrong_memberships(),
        invalid_envelope::wrong_content(),
        invalid_envelope::doubled_content(),
        invalid_envelope::of_no_matter(),
        invalid_event::ids_out_of_range(),
        invalid_event::ids_in_range(),
        invalid_event::chats_out_of_range(),
        invalid_event::chats_in_range(),
        invalid_event::dates_out_of_range(),
        invalid_event::dates_in_range(),
        precedence::silent().iter().map(crate::body::Body::bytes).collect(),
        precedence::silent_and_wrong(),
        precedence::unread_numbers(),
        precedence::unread_numbers_in_events(),
        precedence::types_and_ranges(),
        facts::contents().into_iter().map(|(body, _)| body).collect(),
        facts::transitions().into_iter().map(|(body, _)| body).collect(),
        facts::ignored(),
        facts::several_kinds().into_iter().map(|(body, _)| body).collect(),
        values::bodies(),
    ];
    tables.concat()
}

/// Valid bodies and generated ones: rewritten, with values replaced, and with bytes replaced.
fn mutated(generated: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(SEED);
    let generated =
        generated.iter().filter_map(|body| serde_json::from_slice::<Value>(body).ok()).filter(Value::is_object);
    let sources: Vec<Value> = valid().into_iter().cycle().take(EVENTS).chain(generated).collect();
    let mutate = |index| {
        let source = &sources[rng.usize(..sources.len())];
        match index % 4 {
            0 => rewritten(source, &mut rng),
            1 => damaged(source.to_string().into_bytes(), &mut rng),
            _ => changed(source, &mut rng),
        }
    };
    (0..MUTATIONS).map(mutate).collect()
}

/// What decode says, in the words of the reference.
fn verdict(body: &[u8]) -> Value {
    match decode(body, &limits(), NOW) {
        Ok(None) => json!({ "ignored": true }),
        Ok(Some(event)) => json!({ "org": event.org, "facts": event.facts.iter().map(fact).collect::<Vec<_>>() }),
        Err(refusal) => json!({ "org": org_of(body, MAX_BODY_BYTES), "refused": refusal.reason }),
    }
}

fn fact(fact: &Fact<'_>) -> Value {
    let message = match &fact.what {
        What::Message(message) => json!({
            "edit": message.is_edit,
            "thread": message.thread_id,
            "reply": message.reply_to,
            "media": message.media,
            "text": message.text,
            "chars": message.chars,
            "links": message.links,
            "mentions": message.mentions,
        }),
        What::Join | What::Leave => Value::Null,
    };
    let profile = &fact.user.profile;
    json!({
        "kind": fact.what.name(),
        "chat": fact.chat.id,
        "chat_type": fact.chat.kind.name(),
        "title": fact.chat.title,
        "user": fact.user.id,
        "source": fact.source_id,
        "date": fact.date,
        "at": fact.version.at,
        "update": fact.version.update_id,
        "profile": [profile.username, profile.first_name, profile.last_name],
        "message": message,
    })
}

#[test]
fn decode_agrees_with_the_conformance_kit() {
    let kit = match kit() {
        Ok(kit) => kit,
        Err(why) => {
            println!(
                "skipped: decode was not held against the conformance kit, because {why}; the other tests state the same rules"
            );
            return;
        }
    };
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let generated = generated(&kit, scratch.path());
    assert!(generated.len() > EVENTS * 9 / 10);
    let bodies = [mutated(&generated), generated, vectors()].concat();

    let mut lines = String::new();
    for body in &bodies {
        for byte in body {
            write!(lines, "{byte:02x}").expect("a String takes any text");
        }
        lines.push('\n');
    }
    let list = scratch.path().join("bodies.hex");
    fs::write(&list, lines).expect("the bodies are written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decode/oracle.py");
    let answers = python(&[path(&script), path(&kit), path(&list), &(NOW + DAY).to_string()]);
    let answers: Vec<Answer> = answers.lines().map(|line| serde_json::from_str(line).expect("an answer")).collect();
    assert_eq!(answers.len(), bodies.len());

    let (mut faults, mut differing, mut excused) = (String::new(), 0, 0);
    for (body, Answer { verdict: expected, is_excused }) in bodies.iter().zip(&answers) {
        let found = verdict(body);
        if found == *expected {
            continue;
        }
        if *is_excused && found["refused"] == Reason::InvalidEnvelope.code() {
            excused += 1;
            continue;
        }
        differing += 1;
        if differing <= 20 {
            writeln!(faults, "{}\n    the kit: {expected}\n    decode:  {found}", shown(body))
                .expect("a String takes any text");
        }
    }
    assert!(
        differing == 0,
        "{differing} of {} bodies are judged otherwise than by the kit, among them\n{faults}",
        bodies.len()
    );
    println!("{} bodies are judged as by the kit, {excused} of them stricter", bodies.len());

    // All verdicts came up, so that agreement means something.
    let count = |is: &dyn Fn(&Value) -> bool| answers.iter().filter(|answer| is(&answer.verdict)).count();
    for reason in ["too_large", "malformed_json", "invalid_envelope", "invalid_event"] {
        assert!(count(&|verdict| verdict["refused"] == reason) > 3, "{reason}");
    }
    assert!(count(&|verdict| verdict["ignored"] == true) > 1_000);
    assert!(count(&|verdict| verdict["facts"].is_array()) > 4_000);
    assert!(excused < 200);
}
