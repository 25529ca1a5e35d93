//! `rollcall publish`

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{
    fs::File,
    io::{AsyncBufRead, BufReader},
};

use super::{CHECK, needs_broker};
use crate::{
    broker::{self, PublishError, Publisher, Topology, Unconfirmed},
    clock,
    decode::{self, Limits, Refusal},
    failure::{Failure, Remedy as _},
    lines::{Line, Lines},
    retry::Backoff,
    settings::Settings,
};

/// Messages and bytes that are sent before their confirms are awaited.
const WINDOW: usize = 1000;
const WINDOW_BYTES: usize = 32 << 20;
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

/// A line on its way.
struct Message {
    routing_key: String,
    body: Vec<u8>,
    unconfirmed: Option<Unconfirmed>,
}

/// Publishes every line of the input; waits for a broker that is away.
pub(super) async fn publish(
    settings: &Arc<Settings>,
    input: impl AsyncBufRead + Unpin,
    raw: bool,
    progress: &ProgressBar,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let mut outbox = Outbox::new(settings);
    let mut lines = Lines::new(input);
    let mut invalid = 0;
    let limits = Limits {
        max_body_bytes: settings.limits.max_body_bytes,
        max_clock_skew: settings.limits.max_clock_skew,
        store_text: true,
    };
    while let Some(line) =
        lines.next().await.remedy("the input could not be read to its end; publish it again, nothing counts twice")?
    {
        let Line { number, body } = line;
        let judged = body.ok_or_else(|| "longer than any broker takes".to_owned()).and_then(|body| {
            let decoded = decode::decode(&body, &limits, clock::now());
            let routing_key = match &decoded {
                Ok(Some(event)) => event.routing_key(),
                _ => decode::org_of(&body, limits.max_body_bytes).map(|org| org.to_string()).unwrap_or_default(),
            };
            match decoded {
                Err(_) if raw => Ok(Some((routing_key, body))),
                Err(_) if body.is_empty() => Ok(None),
                Err(Refusal { reason, detail }) => Err(format!("{reason}: {detail}")),
                Ok(_) => Ok(Some((routing_key, body))),
            }
        });
        match judged {
            Ok(Some((routing_key, body))) => {
                outbox.send(Message { routing_key, body, unconfirmed: None }, progress).await;
            }
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
    let published = outbox.finish(progress).await.remedy(CHECK)?;
    Ok(Report { published, invalid, seconds: started.elapsed().as_secs_f64() })
}

/// Messages that are sent and not yet confirmed, and the connection, opened again as often as needed.
struct Outbox<'a> {
    settings: &'a Settings,
    exchange: String,
    publisher: Option<Publisher>,
    window: VecDeque<Message>,
    bytes: usize,
    published: u64,
    backoff: Backoff,
}

impl<'a> Outbox<'a> {
    fn new(settings: &'a Settings) -> Self {
        let exchange = Topology::new(&settings.broker).events_exchange();
        let backoff = Backoff::new(&settings.retry);
        Self { settings, exchange, publisher: None, window: VecDeque::new(), bytes: 0, published: 0, backoff }
    }

    async fn send(&mut self, mut message: Message, progress: &ProgressBar) {
        while self.window.len() >= WINDOW || self.bytes >= WINDOW_BYTES {
            self.confirm_first(progress).await;
        }
        if let Some(publisher) = &self.publisher {
            match publisher.send(&self.exchange, &message.routing_key, None, &message.body).await {
                Ok(unconfirmed) => message.unconfirmed = Some(unconfirmed),
                Err(error) => self.lose(&error, progress).await,
            }
        }
        self.bytes += message.body.len();
        self.window.push_back(message);
    }

    async fn finish(mut self, progress: &ProgressBar) -> anyhow::Result<u64> {
        while !self.window.is_empty() {
            self.confirm_first(progress).await;
        }
        if let Some(publisher) = self.publisher {
            publisher.close().await;
        }
        Ok(self.published)
    }

    /// Waits for the oldest message; if it is not published, sends all of the window again.
    async fn confirm_first(&mut self, progress: &ProgressBar) {
        let Some(first) = self.window.front_mut() else { return };
        let Some(unconfirmed) = first.unconfirmed.take() else { return self.resend(progress).await };
        match unconfirmed.confirmed().await {
            Ok(()) => {
                let length = self.window.pop_front().map_or(0, |message| message.body.len());
                self.bytes -= length;
                self.published += 1;
                progress.inc(1);
            }
            Err(error) => self.lose(&error, progress).await,
        }
    }

    async fn lose(&mut self, error: &PublishError, progress: &ProgressBar) {
        if let Some(publisher) = self.publisher.take() {
            publisher.close().await;
        }
        self.pause(&error.to_string(), progress).await;
    }

    async fn pause(&mut self, error: &str, progress: &ProgressBar) {
        let wait = self.backoff.next_wait();
        progress.suspend(|| eprintln!("broker: {error}; trying again in {:.1} s", wait.as_secs_f32()));
        tokio::time::sleep(wait).await;
    }

    /// Opens a connection and sends the window over it. What had arrived arrives twice, which counts once.
    async fn resend(&mut self, progress: &ProgressBar) {
        let publisher = loop {
            // Without the queues nothing would be routed; whoever comes first declares them.
            let opened = match broker::declare(&self.settings.broker).await {
                Ok(_) => Publisher::open(&self.settings.broker).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(publisher) => break publisher,
                Err(error) => self.pause(&format!("{error:#}"), progress).await,
            }
        };
        let mut failed = None;
        for message in &mut self.window {
            match publisher.send(&self.exchange, &message.routing_key, None, &message.body).await {
                Ok(unconfirmed) => message.unconfirmed = Some(unconfirmed),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.publisher = Some(publisher);
        if let Some(error) = failed {
            self.lose(&error, progress).await;
        }
    }
}
