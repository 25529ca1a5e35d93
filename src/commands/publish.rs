//! `rollcall publish`

use std::{path::PathBuf, sync::Arc, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    fs::File,
    io::{AsyncBufRead, BufReader},
};

use super::needs_broker;
use crate::{
    broker::{Message, Notice, Outbox},
    clock,
    decode::{self, Limits},
    failure::{Failure, Remedy as _},
    lines::{Line, Lines},
    settings::Settings,
};

/// Invalid lines that are shown one by one.
const SHOWN: u64 = 20;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Publish every line as it is, blank and invalid ones too
    #[arg(long)]
    raw: bool,
    /// File with one JSON object a line, or - for standard input
    file: PathBuf,
}

pub(super) async fn run(settings: &Arc<Settings>, args: &Args) -> Result<(), Failure> {
    needs_broker(settings)?;
    let is_stdin = args.file.as_os_str() == "-";
    let progress = ProgressBar::new(0);
    let input: Box<dyn AsyncBufRead + Unpin + Send> = if is_stdin {
        progress.set_style(
            ProgressStyle::with_template("{spinner} {pos} events, {per_sec}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Box::new(BufReader::new(tokio::io::stdin()))
    } else {
        let naming = format!("reading {}", args.file.display());
        let file = File::open(&args.file).await.map_err(|error| anyhow::anyhow!("{naming}: {error}"));
        let file = file.remedy("name a readable file, or - for standard input")?;
        progress.set_style(
            ProgressStyle::with_template("{spinner} {pos} events, {per_sec} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        Box::new(BufReader::with_capacity(1 << 16, file))
    };
    let report = publish(settings, input, args.raw, &progress).await?;
    progress.finish_and_clear();
    println!("{report}");
    if report.invalid > 0 {
        return Err(Failure::new(
            format!("{} lines are no events and were not published", report.invalid),
            "correct them, or publish them as they are with --raw",
        ));
    }
    Ok(())
}

/// What was published.
pub(super) struct Report {
    pub(super) published: u64,
    pub(super) invalid: u64,
    pub(super) seconds: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.published as f64 / self.seconds.max(0.001);
        write!(f, "published {} events in {:.1} s ({rate:.0}/s), each confirmed", self.published, self.seconds)
    }
}

/// Publishes every line of the input; waits for a broker that is away.
pub(super) async fn publish(
    settings: &Arc<Settings>,
    input: impl AsyncBufRead + Unpin,
    raw: bool,
    progress: &ProgressBar,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let (mut published, mut rejected, mut invalid) = (0, 0, 0);
    let mut outbox = Outbox::new(settings, |notice| match notice {
        Notice::Confirmed => {
            published += 1;
            progress.inc(1);
        }
        Notice::Rejected(number, problem) => {
            rejected += 1;
            progress.suspend(|| eprintln!("line {number}: {problem}"));
        }
        Notice::Waiting(error, wait) => {
            progress.suspend(|| eprintln!("broker: {error}; trying again in {:.1} s", wait.as_secs_f32()));
        }
    });
    let mut lines = Lines::new(input);
    let limits = Limits::from(&settings.limits);
    while let Some(Line { number, body }) =
        lines.next().await.remedy("the input could not be read to its end; publish it again, nothing counts twice")?
    {
        match judge(body, &limits, raw) {
            Ok(Some((routing_key, body))) => outbox.send(Message { number, routing_key, body }).await,
            Ok(None) => {}
            Err(problem) => {
                invalid += 1;
                if invalid <= SHOWN {
                    progress.suspend(|| eprintln!("line {number}: {problem}"));
                } else if invalid == SHOWN + 1 {
                    progress.suspend(|| eprintln!("more invalid lines are counted, not shown"));
                }
            }
        }
    }
    outbox.finish().await;
    Ok(Report { published, invalid: invalid + rejected, seconds: started.elapsed().as_secs_f64() })
}

/// A line's routing key and body, nothing for a blank line, or what is wrong with it.
fn judge(body: Option<Vec<u8>>, limits: &Limits, raw: bool) -> Result<Option<(String, Vec<u8>)>, String> {
    let body = body.ok_or("longer than any broker takes")?;
    let decoded = decode::decode(&body, limits, clock::now());
    let routing_key = match &decoded {
        Ok(Some(event)) => event.routing_key(),
        _ => decode::org_of(&body, limits.max_body_bytes).map(|org| org.to_string()).unwrap_or_default(),
    };
    match decoded {
        Err(_) if raw => Ok(Some((routing_key, body))),
        Err(_) if body.is_empty() => Ok(None),
        Err(refusal) => Err(refusal.to_string()),
        Ok(_) => Ok(Some((routing_key, body))),
    }
}
