//! `rollcall dead`: what people on call do with dead letters.

mod advice;
mod body;
mod list;
mod replay;
mod resolve;
mod show;

use std::{
    env, fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    time::Duration,
};

use clap::{Subcommand, builder::PossibleValuesParser};
use sqlx::PgConnection;
use uuid::Uuid;

pub(in crate::commands) use body::visible;

use super::{CHECK, needs_database, table::table};
use crate::{
    clock,
    database::{self, Schema},
    decode::{Reason, Seconds},
    failure::{Failure, Remedy as _},
    letters::{Filter, Status},
    replay::decode_alone,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Groups with the same trouble; with a filter also the letters
    List(list::Args),
    /// One letter: why, what to do, its headers, body and history
    Show(show::Args),
    /// Publish letters again, in growing steps, and tell what became of each
    Replay(replay::Args),
    /// Give letters up; they are kept for a while as discarded
    Discard(resolve::Args),
    /// Park letters again that were discarded or replayed
    Restore(resolve::Args),
    /// Decode the body on standard input, to see whether that ends the process
    #[command(hide = true)]
    Decode,
}

pub(super) async fn run(settings: &Settings, command: Command) -> Result<(), Failure> {
    needs_database(settings)?;
    match command {
        Command::List(args) => list::run(settings, &args).await,
        Command::Show(args) => show::run(settings, &args).await,
        Command::Replay(args) => replay::run(settings, &args).await,
        Command::Discard(args) => resolve::discard(settings, &args).await,
        Command::Restore(args) => resolve::restore(settings, &args).await,
        Command::Decode => decode(),
    }
}

pub(super) fn decode() -> Result<(), Failure> {
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body).remedy(CHECK)?;
    decode_alone(&body);
    Ok(())
}

/// Which letters; those to which all of it applies.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Filter")]
struct FilterArgs {
    /// Reason code; may be repeated
    #[arg(long, value_name = "CODE", value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::code)))]
    reason: Vec<String>,
    /// Organization that the body names; may be repeated
    #[arg(long, value_name = "UUID")]
    org: Vec<Uuid>,
    /// Group, as dead list shows it; may be repeated
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Arrived at or after: 2026-11-24T08:00:00Z, or how long ago, like 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Seconds>,
    /// Arrived before
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Seconds>,
    /// Where letters stand, as far as the command can do something with those; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(Status::ALL.map(Status::name)))]
    status: Vec<String>,
    /// Id of a letter; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<i64>,
}

impl FilterArgs {
    /// The filter of a command that can do something with letters of these statuses, the first unless others are asked for.
    fn filter(&self, possible: &[Status]) -> Result<Filter, Failure> {
        let mut statuses: Vec<_> =
            Status::ALL.into_iter().filter(|status| self.status.iter().any(|name| name == status.name())).collect();
        if let Some(other) = statuses.iter().find(|status| !possible.contains(status)) {
            let possible: Vec<_> = possible.iter().map(|status| status.name()).collect();
            return Err(Failure::usage(
                format!("nothing can be done with letters that are {}", other.name()),
                format!("choose {}; dead restore parks letters again", possible.join(" or ")),
            ));
        }
        if statuses.is_empty() {
            statuses.extend(possible.first());
        }
        Ok(Filter {
            reasons: self.reason.iter().filter_map(|code| code.parse().ok()).collect(),
            orgs: self.org.clone(),
            groups: self.group.clone(),
            since: self.since,
            until: self.until,
            statuses,
            ids: self.id.clone(),
        })
    }
}

/// A point in time, or how long ago, in Unix seconds.
fn time(text: &str) -> Result<Seconds, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(clock::now().saturating_sub_unsigned(ago.as_secs()));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|_| "neither a time like 2026-11-24T08:00:00Z nor a duration like 2h")?;
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX))
}

/// Who acts, and that it is meant.
#[derive(Debug, Clone, clap::Args)]
struct ActArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Who does it, for the history; otherwise user@host
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

impl ActArgs {
    fn who(&self) -> String {
        self.by.clone().unwrap_or_else(|| {
            let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}@{}", user.as_deref().unwrap_or("somebody"), host.trim())
        })
    }

    /// Asks, where nobody said yes before.
    fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(
                format!("{question}: nobody can be asked, standard input is no terminal"),
                "say --yes if you mean it",
            ));
        }
        eprint!("{question}? [y/N] ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).remedy(CHECK)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            Ok(())
        } else {
            Err(Failure::new("nothing was done", "answer y, or say --yes"))
        }
    }
}

async fn connect(settings: &Settings) -> Result<PgConnection, Failure> {
    let mut connection = database::connect_plainly(&settings.database).await.remedy(CHECK)?;
    match database::schema(&mut connection).await.remedy(CHECK)? {
        Schema::Current => Ok(connection),
        Schema::Behind(missing) => {
            Err(Failure::new(format!("{missing} migrations are missing"), "run rollcall migrate"))
        }
    }
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    println!("{}", body::escaped(&serde_json::to_string(value).remedy(CHECK)?));
    Ok(())
}
