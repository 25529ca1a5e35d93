//! The owner: one process that holds both servers from start to stop.

use std::future::pending;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;

use super::folder::Folder;
use super::messages::{Answer, Ready, Request};
use super::postgres::Postgres;
use super::rabbitmq::{Ports, RabbitMq};
use super::stop::StopRequests;
use super::user::User;
use super::{install, note, ports, stdin};

/// Starts both servers in `<dir>/<pid>`, prints where they are as one JSON line, and stops them when told to.
///
/// SIGINT, SIGTERM, SIGHUP and the end of standard input tell it to, at any time. Until then each line of standard
/// input is a request, answered by one line. A terminal is not read. Must be awaited by the runtime's main task: the
/// kernel ends the servers when the thread that started them ends.
///
/// # Errors
///
/// Fails when the servers are not installed and cannot be, do not start, or leave something behind.
pub async fn own(dir: &Path) -> Result<()> {
    let (lines, stdin_end) = stdin::read().map(|stdin| (stdin.lines, stdin.end)).unzip();
    let mut stop_requests = StopRequests::listen(stdin_end)?;
    let programs = install::ensure_programs().await?;
    let user = User::for_postgres()?;
    let folder = Folder::create(dir, user.as_ref()).await?;
    let lived = live(&folder, user.as_ref(), programs, lines, &mut stop_requests).await;
    let removed = folder.remove().await;
    lived.and(removed)
}

async fn live(
    folder: &Folder,
    user: Option<&User>,
    programs: install::Programs,
    lines: Option<UnboundedReceiver<Vec<u8>>>,
    stop_requests: &mut StopRequests,
) -> Result<()> {
    let [postgres, amqp, distribution, epmd] = ports::free()?;
    let ports = Ports { amqp, distribution, epmd };
    let rabbitmq_folder = match programs.rabbitmq.dir() {
        Some(dir) => Some(Folder::create(&dir, None).await?),
        None => None,
    };
    let mut servers = Pair {
        folder,
        postgres: Postgres::new(folder, user, programs.postgres, postgres),
        rabbitmq: RabbitMq::new(rabbitmq_folder.as_ref().unwrap_or(folder), programs.rabbitmq, ports),
    };

    let outcome = tokio::select! {
        request = stop_requests.first() => Ok(request),
        failed = servers.serve(lines) => failed,
    };
    if let Ok(request) = &outcome {
        note(format_args!("stopping after {request}"));
    }
    let (postgres, rabbitmq) = tokio::join!(servers.postgres.end(), servers.rabbitmq.end());
    let removed = match rabbitmq_folder {
        Some(folder) => folder.remove().await,
        None => Ok(()),
    };
    outcome.and(postgres).and(rabbitmq).and(removed)
}

struct Pair<'a> {
    folder: &'a Folder,
    postgres: Postgres<'a>,
    rabbitmq: RabbitMq<'a>,
}

impl Pair<'_> {
    /// Starts both, says so, and does what it is asked; returns only when something failed.
    async fn serve(&mut self, lines: Option<UnboundedReceiver<Vec<u8>>>) -> Result<&'static str> {
        let ready = self.start().await?;
        print_line(&ready).context("printing where the servers are")?;
        if let Some(mut lines) = lines {
            while let Some(line) = lines.recv().await {
                let answer = self.answer(&line).await;
                print_line(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))
                    .context("printing an answer")?;
            }
        }
        pending().await
    }

    async fn start(&mut self) -> Result<Ready> {
        note(format_args!("starting PostgreSQL and RabbitMQ in {}", self.folder.path().display()));
        let begun = Instant::now();
        let announce = |name| note(format!("{name} is ready after {:.1?}", begun.elapsed()));
        let postgres_start = async { self.postgres.create().await.inspect(|_| announce("PostgreSQL")) };
        let rabbitmq_start = async { self.rabbitmq.create().await.inspect(|_| announce("RabbitMQ")) };
        let (postgres_pid, rabbitmq_pid) = tokio::try_join!(postgres_start, rabbitmq_start)?;
        Ok(Ready {
            database_url: self.postgres.url(),
            amqp_url: self.rabbitmq.url(),
            dir: self.folder.path().to_owned(),
            postgres_log: self.postgres.log(),
            rabbitmq_log: self.rabbitmq.log(),
            postgres_pid,
            rabbitmq_pid,
        })
    }

    async fn answer(&mut self, line: &[u8]) -> Result<Answer> {
        // Only the kind of what is wrong: the parser's own text could quote a password.
        let request = serde_json::from_slice(line).map_err(|error| {
            anyhow::anyhow!("not a request ({:?} error in column {})", error.classify(), error.column())
        })?;
        Ok(match request {
            Request::StopPostgres(manner) => self.postgres.stop(manner).await.map(|()| Answer::Stopped)?,
            Request::StartPostgres => Answer::Started(self.postgres.start().await?),
            Request::StopRabbitmq(manner) => self.rabbitmq.stop(manner).await.map(|()| Answer::Stopped)?,
            Request::StartRabbitmq => Answer::Started(self.rabbitmq.start().await?),
            Request::Rabbitmqctl(arguments) => Answer::Printed(self.rabbitmq.ctl(&arguments).await?),
        })
    }
}

fn print_line(message: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(message)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
