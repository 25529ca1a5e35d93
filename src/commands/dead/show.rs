//! `rollcall dead show`

use std::io::{self, Write as _};

use serde_json::json;

use super::{
    CHECK,
    advice::advice,
    body::{self, visible},
    connect, print_json, table,
};
use crate::{
    decode::Reason,
    failure::{Failure, Remedy as _},
    letters::{self, History, Letter},
    settings::Settings,
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Id of the letter
    id: i64,
    /// The whole body, however long
    #[arg(long)]
    full: bool,
    /// Nothing but the exact bytes of the body
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print JSON; the body as text where it is UTF-8, else as hexadecimal digits
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: &Settings, args: &Args) -> Result<(), Failure> {
    let mut connection = connect(settings).await?;
    let Some(letter) = letters::letter(&mut connection, args.id).await.remedy(CHECK)? else {
        return Err(Failure::new(format!("there is no letter {}", args.id), "rollcall dead list shows their ids"));
    };
    if args.raw {
        let mut stdout = io::stdout().lock();
        return stdout.write_all(&letter.body).and_then(|()| stdout.flush()).remedy("standard output was closed");
    }
    let history = letters::history(&mut connection, args.id).await.remedy(CHECK)?;
    if args.json { print_json(&as_json(&letter, &history)) } else { print(&letter, &history, args.full) }
}

fn as_json(letter: &Letter, history: &[History]) -> serde_json::Value {
    let (text, hex) = match std::str::from_utf8(&letter.body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(body::hex(&letter.body))),
    };
    let [meaning, remedy] = letter.reason.parse::<Reason>().map(advice).unwrap_or_default();
    json!({
        "id": letter.id, "group": letter.fingerprint, "status": letter.status, "attempts": letter.attempts,
        "reason": letter.reason, "detail": letter.detail, "meaning": meaning, "remedy": remedy,
        "kind": letter.kind, "path": letter.path, "sqlstate": letter.sqlstate, "constraint": letter.constraint_name,
        "org_id": letter.org_id, "routing_key": letter.routing_key, "headers": letter.headers,
        "first_received_at": letter.first_received_at, "received_at": letter.received_at, "resolved_at": letter.resolved_at,
        "bytes": letter.body.len(), "sha256": letter.sha256, "body": text, "body_hex": hex, "history": history,
    })
}

fn print(letter: &Letter, history: &[History], is_full: bool) -> Result<(), Failure> {
    let [meaning, remedy] = letter.reason.parse::<Reason>().map(advice).unwrap_or_default();
    let some = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), visible);
    let mut out = vec![
        format!("letter {}: {}, {}", letter.id, letter.reason, letter.status),
        format!("  {meaning}"),
        format!("  what to do: {remedy}"),
        String::new(),
        format!("detail        {}", visible(&letter.detail)),
        format!("group         {}", letter.fingerprint),
        format!("kind          {}", some(&letter.kind)),
    ];
    for (name, value) in
        [("path", &letter.path), ("sqlstate", &letter.sqlstate), ("constraint", &letter.constraint_name)]
    {
        if value.is_some() {
            out.push(format!("{name:<13} {}", some(value)));
        }
    }
    out.extend([
        format!("organization  {}", letter.org_id.map_or_else(|| "-".into(), |org| org.to_string())),
        format!("routing key   {}", visible(&letter.routing_key)),
        format!("first seen    {}", letter.first_received_at),
        format!("last seen     {}, attempts {}", letter.received_at, letter.attempts),
        format!("resolved      {}", some(&letter.resolved_at)),
        format!("body          {} bytes, sha256 {}", letter.body.len(), letter.sha256),
        String::new(),
        "headers, which nobody vouches for".into(),
        indented(&body::show(letter.headers.to_string().as_bytes(), None)),
        String::new(),
        "body".into(),
        indented(&body::show(&letter.body, (!is_full).then_some(body::SHOWN))),
        String::new(),
        "history".into(),
    ]);
    let rows = history.iter().map(|entry| {
        let replay = entry.replay.map_or_else(|| "-".into(), |id| id.to_string());
        [entry.at.clone(), entry.what.clone(), entry.who.clone(), replay, entry.detail.clone()]
    });
    out.push(indented(&table(["WHEN", "WHAT", "WHO", "REPLAY", "DETAIL"], rows)));
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", out.join("\n")).remedy("standard output was closed")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
