//! Scenarios: reproducible events of communities that never were, for the demo and for measuring.

mod update;

use std::io::{self, Write};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::decode::Seconds;
use update::Community;

/// What to generate. The same options give the same bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many events, redeliveries and bad ones included.
    pub events: u64,
    /// Organizations.
    pub orgs: usize,
    /// Chats of each.
    pub chats: usize,
    /// People of each.
    pub users: u64,
    /// Share of events that most often are of the largest organizations; the others are of any, one as often as another.
    pub uneven: f64,
    /// Share of events that are delivered once more, later.
    pub redelivered: f64,
    /// Share of events that belong into the dead letters.
    pub bad: f64,
    /// Share of bare updates.
    pub bare: f64,
    /// Unix time of the last event.
    pub until: Seconds,
    /// Seconds from the first event to the last.
    pub span: Seconds,
    /// Chooses one of many scenarios.
    pub seed: u64,
}

impl Options {
    /// A small platform on three busy days.
    #[must_use]
    pub const fn new(events: u64, until: Seconds, seed: u64) -> Self {
        let span = 3 * 86_400;
        Self {
            events,
            orgs: 12,
            chats: 3,
            users: 250,
            uneven: 0.0,
            redelivered: 0.1,
            bad: 0.005,
            bare: 0.05,
            until,
            span,
            seed,
        }
    }
}

/// An organization that has to exist before its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Org {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// IANA name.
    pub timezone: &'static str,
    /// Its chats, all active.
    pub chats: Vec<i64>,
}

/// What a scenario holds, as far as it is known beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Events written.
    pub events: u64,
    /// Of these, redeliveries.
    pub redelivered: u64,
    /// Of these, bad ones for the first time.
    pub bad: u64,
}

const TIMEZONES: [&str; 5] = ["UTC", "Europe/Moscow", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"];

/// The first of many organizations has 0.56 of what is uneven, the first ten 0.94.
const SHAPE: f64 = 1.2;

/// The organizations of a scenario.
#[must_use]
pub fn orgs(options: &Options) -> Vec<Org> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let org = |number: usize| Org {
        id: uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid(),
        name: format!("Organization {number}"),
        timezone: TIMEZONES[number % TIMEZONES.len()],
        chats: (0..options.chats)
            .map(|chat| -1_001_000_000_000 - i64::try_from(number * 1000 + chat).unwrap_or(0))
            .collect(),
    };
    (0..options.orgs).map(org).collect()
}

/// Writes the events, one body a line.
///
/// # Errors
///
/// When the output does not take them.
pub fn write(options: &Options, mut out: impl Write) -> io::Result<Told> {
    let mut random = fastrand::Rng::with_seed(options.seed.wrapping_add(1));
    let mut communities: Vec<_> = orgs(options).into_iter().map(|org| Community::new(org, options.users)).collect();
    let mut told = Told::default();
    let mut recent: Vec<Vec<u8>> = Vec::new();
    let span = u64::try_from(options.span).unwrap_or(0);
    while told.events < options.events {
        if !recent.is_empty() && random.f64() < options.redelivered {
            told.redelivered += 1;
            write_line(&mut out, &recent[random.usize(..recent.len())])?;
        } else {
            let progress = i64::try_from(told.events * span / options.events.max(1)).unwrap_or(0);
            let date = options.until - options.span + progress;
            let at = choose(&mut random, communities.len(), options.uneven);
            let update_id = told.events + 1;
            let community = &mut communities[at];
            let org = community.org().id;
            let body = if random.f64() < options.bad {
                told.bad += 1;
                bad(&mut random, org, update_id)
            } else {
                let update = community.update(&mut random, update_id, date);
                let is_bare = random.f64() < options.bare;
                (if is_bare { update } else { json!({ "org_id": org, "update": update }) }).to_string().into_bytes()
            };
            write_line(&mut out, &body)?;
            if recent.len() < 2000 {
                recent.push(body);
            } else {
                let at = random.usize(..recent.len());
                recent[at] = body;
            }
        }
        told.events += 1;
    }
    out.flush()?;
    Ok(told)
}

/// One of so many.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 on; what is too large is the last")]
fn choose(random: &mut fastrand::Rng, count: usize, uneven: f64) -> usize {
    if uneven > 0.0 && random.f64() < uneven {
        // Pareto's distribution: few are large, and many are small.
        let size = (1.0 - random.f64()).powf(-1.0 / SHAPE);
        (size as usize - 1).min(count - 1)
    } else {
        random.usize(..count)
    }
}

fn write_line(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    out.write_all(body)?;
    out.write_all(b"\n")
}

/// One of the ways to be refused.
fn bad(random: &mut fastrand::Rng, org: Uuid, update_id: u64) -> Vec<u8> {
    let message = |date: Value| {
        let chat = json!({ "id": -77, "type": "group", "title": "Nowhere" });
        json!({ "message_id": update_id, "date": date, "chat": chat, "from": { "id": 42 }, "text": "refuse me" })
    };
    let nobody = Uuid::from_u128(u128::from(update_id));
    let body = match random.u8(..6) {
        0 => return format!("not JSON at all {update_id}").into_bytes(),
        1 => json!({ "org_id": org, "update": { "update_id": update_id, "message": message(json!("yesterday")) } }),
        2 => json!({ "org_id": org, "update": { "update_id": update_id, "message": message(json!(0)) } }),
        3 => {
            json!({ "org_id": nobody, "update": { "update_id": update_id, "message": message(json!(1_700_000_000)) } })
        }
        4 => json!({ "update_id": update_id, "message": message(json!(1_700_000_000)) }),
        _ => json!({ "org_id": "somebody", "update": { "update_id": update_id } }),
    };
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Limits, decode};

    #[test]
    fn the_same_options_give_the_same_bytes() {
        let written = |seed| {
            let mut out = Vec::new();
            let told = write(&Options::new(500, 1_790_000_000, seed), &mut out).unwrap();
            (out, told)
        };
        assert_eq!(written(1), written(1));
        assert_ne!(written(1).0, written(2).0);
        assert_eq!(written(1).1.events, 500);
    }

    #[test]
    fn uneven_events_are_of_large_organizations() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0_u32; 1000];
        for _ in 0..10_000 {
            counts[choose(&mut random, counts.len(), 0.7)] += 1;
        }
        assert!((3600..4400).contains(&counts[0]), "{}", counts[0]);
        assert!((6200..7000).contains(&counts[..10].iter().sum::<u32>()), "{:?}", &counts[..10]);
        assert!(counts.iter().filter(|count| **count > 0).count() > 900);
    }

    #[test]
    fn what_is_not_bad_is_accepted() {
        let mut out = Vec::new();
        let options = Options { bad: 0.0, ..Options::new(2000, 1_790_000_000, 7) };
        write(&options, &mut out).unwrap();
        let limits = Limits { max_body_bytes: 1 << 20, max_clock_skew: std::time::Duration::ZERO, store_text: true };
        for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            decode(line, &limits, 1_790_000_000).unwrap_or_else(|refusal| panic!("{refusal}"));
        }
    }
}
