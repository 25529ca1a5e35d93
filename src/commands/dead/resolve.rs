//! `rollcall dead discard` and `rollcall dead restore`

use super::{ActArgs, CHECK, FilterArgs, connect};
use crate::{
    failure::{Failure, Remedy as _},
    letters::{self, Status},
    settings::Settings,
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    act: ActArgs,
}

pub(super) async fn discard(settings: &Settings, args: &Args) -> Result<(), Failure> {
    resolve(settings, args, &[Status::Parked], "discard").await
}

pub(super) async fn restore(settings: &Settings, args: &Args) -> Result<(), Failure> {
    resolve(settings, args, &[Status::Discarded, Status::Replayed], "restore").await
}

async fn resolve(settings: &Settings, args: &Args, possible: &[Status], what: &str) -> Result<(), Failure> {
    let filter = args.filter.filter(possible)?;
    if !filter.is_given() {
        return Err(Failure::usage(
            format!("{what} needs a filter"),
            "choose letters with --id, --group, --reason, --org, --since or --until; rollcall dead list shows them",
        ));
    }
    let mut connection = connect(settings).await?;
    let chosen = letters::find(&mut connection, &filter).await.remedy(CHECK)?;
    if chosen.is_empty() {
        println!("no such letters");
        return Ok(());
    }
    args.act.confirm(&format!("{what} {} letters", chosen.len()))?;
    let (who, note) = (args.act.who(), args.act.note.as_str());
    let done = if what == "discard" {
        letters::discard(&mut connection, &chosen, &who, note).await
    } else {
        letters::restore(&mut connection, &chosen, &who, note).await
    };
    let done = done.remedy("some may be done already; run it again")?;
    println!("{} {done} letters", if what == "discard" { "discarded" } else { "restored" });
    let left = chosen.len() as u64 - done;
    if left > 0 {
        println!("{left} letters came again or were resolved meanwhile, and are as they were");
    }
    Ok(())
}
