//! The owner: one process that holds both servers from start to stop.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::folder::Folder;
use super::postgres::Postgres;
use super::rabbitmq::{Ports, RabbitMq};
use super::stop::StopRequests;
use super::user::User;
use super::{Ready, install, note, ports};

/// Starts both servers in `<dir>/<pid>`, prints where they are as one JSON line, and stops them when told to.
///
/// SIGINT, SIGTERM, SIGHUP and the end of standard input (unless that is a terminal) tell it to, at any time. Must be
/// awaited by the runtime's main task: the kernel ends the servers when the thread that started them ends.
///
/// # Errors
///
/// Fails when the servers are not installed and cannot be, do not start, or leave something behind.
pub async fn own(dir: &Path) -> Result<()> {
    let mut requests = StopRequests::listen()?;
    let programs = install::ensure_programs().await?;
    let user = User::for_postgres()?;
    let folder = Folder::create(dir, user.as_ref()).await?;
    let lived = live(&folder, user.as_ref(), programs, &mut requests).await;
    let removed = folder.remove().await;
    lived.and(removed)
}

async fn live(
    folder: &Folder,
    user: Option<&User>,
    programs: install::Programs,
    requests: &mut StopRequests,
) -> Result<()> {
    let [postgres, amqp, distribution, epmd] = ports::free()?;
    let mut postgres = Postgres::new(folder, user, programs.postgres, postgres);
    let mut rabbitmq = RabbitMq::new(folder, programs.rabbitmq, Ports { amqp, distribution, epmd });

    let outcome = tokio::select! {
        request = requests.first() => Ok(request),
        failed = serve(folder, &mut postgres, &mut rabbitmq) => failed,
    };
    if let Ok(request) = &outcome {
        note(format_args!("stopping after {request}"));
    }
    tokio::join!(postgres.stop(), rabbitmq.stop());
    outcome.map(drop)
}

/// Starts both, says so, and stays; returns only when something failed.
async fn serve<'a>(folder: &Folder, postgres: &mut Postgres<'_>, rabbitmq: &mut RabbitMq<'_>) -> Result<&'a str> {
    note(format_args!("starting PostgreSQL and RabbitMQ in {}", folder.path().display()));
    let begun = Instant::now();
    let announce = |name| note(format!("{name} is ready after {:.1?}", begun.elapsed()));
    let postgres_start = async { postgres.start().await.inspect(|_| announce("PostgreSQL")) };
    let rabbitmq_start = async { rabbitmq.start().await.inspect(|_| announce("RabbitMQ")) };
    let (postgres_pid, rabbitmq_pid) = tokio::try_join!(postgres_start, rabbitmq_start)?;
    let ready = Ready {
        database_url: postgres.url(),
        amqp_url: rabbitmq.url(),
        dir: folder.path().to_owned(),
        postgres_log: postgres.log(),
        postgres_pid,
        rabbitmq_pid,
    };
    let line = serde_json::to_string(&ready).context("describing the servers")?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("printing where the servers are")?;
    std::future::pending().await
}
