//! `rollcall dead replay`

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{ActArgs, CHECK, FilterArgs, connect, print_json, table};
use crate::{
    commands::needs_broker,
    failure::{Failure, Remedy as _},
    letters::{self, Chosen, Status},
    replay::{self, Notice, Options, Outcomes, Prediction, Replay, Stopped},
    settings::Settings,
    shutdown::Signals,
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    act: ActArgs,
    /// Only show what it would change, row by row, by doing it and taking it back
    #[arg(long)]
    dry_run: bool,
    /// Go on when a letter is refused again
    #[arg(long)]
    keep_going: bool,
    /// Letters a second at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long to wait for what becomes of published letters
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Take up a replay that was stopped, instead of beginning one
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["dry_run", "reason", "org", "group", "since", "until", "status", "id"])]
    resume: Option<i64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: &Settings, args: &Args) -> Result<(), Failure> {
    if let Some(id) = args.resume {
        needs_broker(settings)?;
        let Some(replay) = replay::resume(settings, id, &args.act.who()).await.remedy(CHECK)? else {
            return Err(Failure::new(
                format!("there is no replay {id} that is not running"),
                "rollcall dead list shows those with letters to go",
            ));
        };
        return replay_all(args, replay).await;
    }
    let filter = args.filter.filter(&[Status::Parked])?;
    let mut connection = connect(settings).await?;
    let chosen = letters::find(&mut connection, &filter).await.remedy(CHECK)?;
    if chosen.is_empty() {
        if args.json {
            return print_json(&json!({ "letters": 0 }));
        }
        println!("no parked letters to replay");
        return Ok(());
    }
    if args.dry_run {
        return predict(settings, args, &chosen).await;
    }
    needs_broker(settings)?;
    args.act.confirm(&format!("replay {} letters (--dry-run shows what that changes)", chosen.len()))?;
    let replay = replay::start(settings, &chosen, &args.act.who(), &args.act.note).await.remedy(CHECK)?;
    drop(chosen);
    replay_all(args, replay).await
}

fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_bar} {pos}/{len} letters, {per_sec}, {eta} to go");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

async fn predict(settings: &Settings, args: &Args, chosen: &[Chosen]) -> Result<(), Failure> {
    let progress = bar(chosen.len() as u64);
    let predicted = replay::preview(settings, chosen, |count| progress.inc(count)).await;
    progress.finish_and_clear();
    let predicted = predicted.remedy("nothing was changed; run it again, or rollcall check")?;
    if args.json {
        return print_json(&predicted);
    }
    let Prediction { outcomes, tables } = &predicted;
    println!("a replay of {} letters, tried and taken back:", outcomes.letters);
    print_outcomes(outcomes);
    let rows = tables.iter().map(|(name, rows)| {
        let unchanged = rows.unchanged.map_or_else(|| "-".into(), |rows| rows.to_string());
        [name.clone(), rows.inserted.to_string(), rows.updated.to_string(), unchanged]
    });
    println!("\n{}", table(["TABLE", "INSERTED", "UPDATED", "UNCHANGED"], rows));
    if outcomes.refused > 0 && !args.keep_going {
        println!("\nit would stop at the first letter that is refused again; --keep-going goes on");
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    replay: i64,
    stopped: &'static str,
    seconds: f64,
    #[serde(flatten)]
    outcomes: &'a Outcomes,
}

async fn replay_all(args: &Args, mut replay: Replay<'_>) -> Result<(), Failure> {
    let id = replay.id();
    let again = format!("rollcall dead replay --resume {id}");
    let remedy = format!("nothing is lost; mend it, then {again}");
    let options = Options { keep_going: args.keep_going, rate: args.rate, patience: args.wait };
    let stop = CancellationToken::new();
    let mut signals = Signals::listen().remedy(CHECK)?;
    let before = replay.outcomes().await.remedy(&remedy)?;
    let progress = bar(before.letters);
    progress.set_position(before.letters - before.waiting - before.published);
    progress.enable_steady_tick(Duration::from_millis(200));
    let started = Instant::now();
    let stopped = {
        let running = replay.run(&options, &stop, |notice| match notice {
            Notice::Done(count) => progress.inc(count),
            Notice::Waiting(error, wait) => {
                progress.suspend(|| eprintln!("broker: {error}; trying again in {:.1} s", wait.as_secs_f32()));
            }
        });
        tokio::pin!(running);
        loop {
            tokio::select! {
                stopped = &mut running => break stopped,
                name = signals.next() => {
                    if stop.is_cancelled() {
                        return Err(Failure::new("interrupted at once", again));
                    }
                    progress.suspend(|| eprintln!("{name}: stopping after this letter"));
                    stop.cancel();
                }
            }
        }
    };
    progress.finish_and_clear();
    let stopped = stopped.remedy(&remedy)?;
    let seconds = started.elapsed().as_secs_f64();
    let outcomes = replay.outcomes().await.remedy(&remedy)?;
    let name = match stopped {
        Stopped::Finished => "finished",
        Stopped::Refused => "refused",
        Stopped::NoOutcome => "no_outcome",
        Stopped::Interrupted => "interrupted",
    };
    if args.json {
        print_json(&Report { replay: id, stopped: name, seconds, outcomes: &outcomes })?;
    } else {
        let done = (outcomes.letters - outcomes.waiting) - (before.letters - before.waiting);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = done as f64 / seconds.max(0.001);
        println!("replay {id}: {done} of {} letters in {seconds:.1} s ({rate:.0}/s)", outcomes.letters);
        print_outcomes(&outcomes);
    }
    match stopped {
        Stopped::Finished if outcomes.refused == 0 => Ok(()),
        Stopped::Finished => Err(Failure::new(
            format!("{} letters were refused again", outcomes.refused),
            "they are parked again; rollcall dead show ID says what to do",
        )),
        Stopped::Refused => Err(Failure::new(
            format!("stopped: a letter was refused again, {} are to go", outcomes.waiting),
            format!("mend what stands above, then {again}, with --keep-going to go on whatever comes"),
        )),
        Stopped::NoOutcome => Err(Failure::new(
            format!("nothing became of {} published letters within {:?}", outcomes.published, args.wait),
            format!("see that a worker runs (rollcall run), then {again}"),
        )),
        Stopped::Interrupted => {
            Err(Failure::new(format!("interrupted, {} letters are to go", outcomes.waiting), again))
        }
    }
}

fn print_outcomes(outcomes: &Outcomes) {
    let lines = [
        ("applied", outcomes.applied),
        ("already applied", outcomes.already_applied),
        ("ignored: no fact in it", outcomes.ignored),
        ("refused again", outcomes.refused),
        ("skipped", outcomes.skipped),
        ("published, outcome unknown", outcomes.published),
        ("not published", outcomes.waiting),
    ];
    for (what, count) in lines {
        if count > 0 || what == "applied" || what == "already applied" || what == "refused again" {
            println!("{count:>9}  {what}");
        }
    }
    let rows = outcomes
        .refusals
        .iter()
        .map(|refusals| [refusals.letters.to_string(), refusals.example.to_string(), refusals.why.clone()]);
    if !outcomes.refusals.is_empty() {
        println!("\n{}", table(["LETTERS", "EXAMPLE", "REFUSED AGAIN"], rows));
    }
    let rows = outcomes.skips.iter().map(|skip| [skip.letter.to_string(), skip.why.clone()]);
    if !outcomes.skips.is_empty() {
        println!("\n{}", table(["LETTER", "SKIPPED"], rows));
    }
}
