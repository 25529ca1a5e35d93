//! `rollcall partitions`

use std::time::Duration;

use clap::Subcommand;

use super::{CHECK, needs_broker, status::MANAGEMENT};
use crate::{
    broker::{self, Progress, PruneError},
    failure::{Failure, Remedy as _},
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Route events to the partitions of broker.partitions and no others, after all replicas have that setting
    Apply,
    /// Delete the queues of partitions that are not used any more, once they are empty
    Prune(PruneArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// How long to wait until they are empty
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

pub(super) async fn run(settings: &Settings, command: &Command) -> Result<(), Failure> {
    needs_broker(settings)?;
    match command {
        Command::Apply => apply(settings).await,
        Command::Prune(args) => prune(settings, args).await,
    }
}

async fn apply(settings: &Settings) -> Result<(), Failure> {
    let topology = broker::apply(&settings.broker).await.remedy(CHECK)?;
    println!("events are routed to {} partitions", topology.partitions());
    let surplus: Vec<_> = topology.surplus_queues().collect();
    if !surplus.is_empty() {
        println!("no longer used: {}; replicas empty them, rollcall partitions prune deletes them", surplus.join(", "));
    }
    Ok(())
}

async fn prune(settings: &Settings, args: &PruneArgs) -> Result<(), Failure> {
    let mut deleted = 0;
    let pruned = broker::prune(&settings.broker, args.wait, |progress| match progress {
        Progress::Holds(queue, Some(held)) => eprintln!("{queue} holds {held} events"),
        Progress::Holds(queue, None) => eprintln!("{queue}: the broker has not counted yet"),
        Progress::Deleted(queue) => {
            deleted += 1;
            println!("deleted {queue}");
        }
    });
    pruned.await.map_err(|error| {
        let remedy = match error {
            PruneError::NoManagement => MANAGEMENT,
            PruneError::Bound(_) => {
                "give all replicas and publishers the same broker.partitions, then run rollcall partitions apply"
            }
            PruneError::NotEmpty(..) => "have replicas run that empty it, see rollcall status; then do it again",
            PruneError::Broker(_) => CHECK,
        };
        Failure::new(error, remedy)
    })?;
    if deleted == 0 {
        println!("nothing is surplus: {} partitions", settings.broker.partitions);
    }
    Ok(())
}
