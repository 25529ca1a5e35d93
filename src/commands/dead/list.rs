//! `rollcall dead list`

use serde::Serialize;

use super::{CHECK, FilterArgs, connect, print_json, table};
use crate::{
    failure::{Failure, Remedy as _},
    letters::{self, Entry, Group, Status},
    replay::{self, Unfinished},
    settings::Settings,
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Letters that are shown at most, latest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// Print JSON: groups, letters and unfinished replays
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    groups: Vec<Group>,
    letters: Vec<Entry>,
    unfinished_replays: Vec<Unfinished>,
}

pub(super) async fn run(settings: &Settings, args: &Args) -> Result<(), Failure> {
    let filter = args.filter.filter(&Status::ALL)?;
    let mut connection = connect(settings).await?;
    let groups = letters::groups(&mut connection, &filter).await.remedy(CHECK)?;
    let is_listed = filter.is_given() || !args.filter.status.is_empty();
    let letters = if is_listed {
        letters::list(&mut connection, &filter, args.limit.into()).await.remedy(CHECK)?
    } else {
        Vec::new()
    };
    let unfinished_replays = replay::unfinished(&mut connection).await.remedy(CHECK)?;
    let listing = Listing { groups, letters, unfinished_replays };
    if args.json {
        return print_json(&listing);
    }
    print(&listing, is_listed);
    Ok(())
}

fn print(listing: &Listing, is_listed: bool) {
    if listing.groups.is_empty() {
        println!("no letters");
    } else {
        let head = ["GROUP", "LETTERS", "ORGS", "FIRST SEEN", "LAST SEEN", "EXAMPLE", "REASON", "KIND", "AT FAULT"];
        let rows = listing.groups.iter().map(|group| {
            let at_fault =
                [&group.path, &group.sqlstate, &group.constraint].into_iter().flatten().cloned().collect::<Vec<_>>();
            [
                group.fingerprint.clone(),
                group.letters.to_string(),
                group.organizations.to_string(),
                group.first_seen.clone(),
                group.last_seen.clone(),
                group.example.to_string(),
                group.reason.clone(),
                group.kind.clone().unwrap_or_else(|| "-".into()),
                at_fault.join(" "),
            ]
        });
        println!("{}", table(head, rows));
    }
    if is_listed && !listing.letters.is_empty() {
        let head = ["ID", "GROUP", "RECEIVED", "STATUS", "ATTEMPTS", "BYTES", "ORGANIZATION", "WHY"];
        let rows = listing.letters.iter().map(|letter| {
            [
                letter.id.to_string(),
                letter.fingerprint.clone(),
                letter.received_at.clone(),
                letter.status.clone(),
                letter.attempts.to_string(),
                letter.bytes.to_string(),
                letter.org_id.map_or_else(|| "-".into(), |org| org.to_string()),
                format!("{}: {}", letter.reason, letter.detail),
            ]
        });
        println!("\n{}", table(head, rows));
        let all: i64 = listing.groups.iter().map(|group| group.letters).sum();
        let shown = listing.letters.len();
        if i64::try_from(shown).is_ok_and(|shown| shown < all) {
            println!("the latest {shown} of {all} letters; --limit shows more");
        }
    }
    for Unfinished { id, started_at, started_by, letters } in &listing.unfinished_replays {
        println!(
            "\nreplay {id}, begun {started_at} by {}, has {letters} letters to go: rollcall dead replay --resume {id}",
            super::body::visible(started_by)
        );
    }
}
