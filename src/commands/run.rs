//! `rollcall run`

use std::{process, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{CHECK, needs_broker, needs_database};
use crate::{
    archive,
    decode::Kind,
    failure::{Died, Failure, Remedy as _},
    http, log,
    pipeline::Worker,
    settings::Settings,
    settle::Outcome,
    shutdown::Signals,
    status::Status,
};

pub(super) async fn run(settings: Arc<Settings>) -> Result<(), Failure> {
    needs_database(&settings)?;
    needs_broker(&settings)?;
    let logging = log::start(&settings.log).remedy("log.filter is written like RUST_LOG: info,rollcall=debug")?;
    let signals = Signals::listen().remedy(CHECK)?;
    let listener =
        http::listen(settings.http.listen).await.remedy("choose another http.listen; port 0 takes a free one")?;
    let address = listener.local_addr().remedy(CHECK)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), http.address = %address, "starting");

    let status = Arc::new(Status::new(logging.dropped.clone()));
    let stop = CancellationToken::new();
    let worker = Worker::new(Arc::clone(&settings), Arc::clone(&status));
    let mut tasks = JoinSet::new();
    let worker_stop = stop.clone();
    let beside = (worker.clone(), Arc::clone(&settings), Arc::clone(&status), stop.clone());
    tasks.spawn(async move { worker.run(worker_stop).await });
    tasks.spawn(async move {
        let (worker, settings, status, stop) = beside;
        if stop.run_until_cancelled(status.begun()).await.is_some() {
            tokio::join!(
                worker.watch_database(stop.clone()),
                archive::run(Arc::clone(&settings), Arc::clone(&status), stop.clone()),
                archive::sweep(&settings, &status, stop.clone()),
            );
        }
        Ok(())
    });
    tasks.spawn(http::serve(listener, Arc::clone(&status), stop.clone()));

    let mut failure = None;
    let hard = signals.guard(stop.clone(), settings.shutdown.grace);
    let finish = async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(|_| Died("a task").into()).and_then(|ended| ended);
            let is_early = !stop.is_cancelled();
            if let Err(error) = ended {
                tracing::error!(error = format!("{error:#}"), "a task failed: stopping");
                failure.get_or_insert(error);
            } else if is_early {
                failure.get_or_insert(anyhow::anyhow!("a task ended early"));
            }
            // One that is gone takes the others with it: a worker that half works helps nobody.
            stop.cancel();
        }
    };
    tokio::select! {
        () = finish => {}
        reason = hard => {
            tracing::error!(reason, "ending hard: the broker will deliver again what was not finished");
            drop(logging);
            process::exit(1);
        }
    }
    let metrics = &status.metrics;
    let ended = |outcome| Kind::ALL.iter().map(|kind| metrics.events(*kind).get(outcome)).sum::<u64>();
    tracing::info!(
        received = metrics.received_in_all(),
        applied = ended(Outcome::Applied),
        ignored = ended(Outcome::Ignored),
        dead_lettered = ended(Outcome::DeadLettered),
        archived = metrics.archived.get(),
        balance = metrics.balance(),
        "stopped"
    );
    match failure {
        None => Ok(()),
        Some(error) => Err(Failure::new(format!("{error:#}"), "this is a bug: the log above says where")),
    }
}
