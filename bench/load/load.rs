//! The events of a run, and the place that they happen in.

use std::{fs, io, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use rollcall::{
    scenario::{self, Org},
    settings::{Settings, Sources},
};
use sqlx::{AssertSqlSafe, PgConnection};
use tempfile::NamedTempFile;

use crate::{options::Options, scenarios::Scenario, support::Place};

/// 2026-09-21, before any clock that runs this.
const UNTIL: i64 = 1_790_000_000;

/// Events in publishing order.
pub struct Load {
    setup: Setup,
    pub bodies: Vec<Vec<u8>>,
    /// Each one's organization, which is its routing key.
    keys: Vec<String>,
}

/// What exists before the events.
#[derive(Clone)]
enum Setup {
    Organizations(Vec<Org>),
    Statements(String),
}

impl Load {
    /// Good events with an envelope only: the limits know neither dead letters nor routing.
    pub fn generate(scenario: &Scenario, events: u64, seed: u64) -> anyhow::Result<Self> {
        let options = scenario::Options {
            orgs: scenario.orgs,
            chats: scenario.chats,
            users: scenario.people,
            uneven: scenario.uneven,
            redelivered: scenario.redelivered,
            bad: 0.0,
            bare: 0.0,
            span: scenario.span,
            ..scenario::Options::new(events, UNTIL, seed)
        };
        let mut written = Vec::new();
        scenario::write(&options, &mut written)?;
        let bodies: Vec<_> =
            written.split(|byte| *byte == b'\n').filter(|body| !body.is_empty()).map(<[u8]>::to_vec).collect();
        let key = |body: &Vec<u8>| rollcall::decode::org_of(body, usize::MAX).map(|org| org.to_string());
        let keys = bodies.iter().map(key).collect::<Option<_>>().context("an event without an organization")?;
        Ok(Self { setup: Setup::Organizations(scenario::orgs(&options)), bodies, keys })
    }

    /// Any events, bad ones and bare updates too.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read(&file).with_context(|| format!("reading {}", file.display()))
        };
        let statements = String::from_utf8(read("setup.sql")?).context("setup.sql is not UTF-8")?;
        let events = read("events.ndjson")?;
        let bodies: Vec<_> =
            events.strip_suffix(b"\n").unwrap_or(&events).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let key = |body: &Vec<u8>| rollcall::decode::org_of(body, usize::MAX).map(|org| org.to_string());
        let keys = bodies.iter().map(|body| key(body).unwrap_or_default()).collect();
        Ok(Self { setup: Setup::Statements(statements), bodies, keys })
    }

    /// Some of the events, in the same order.
    pub fn first(&self, events: usize) -> Self {
        let events = events.min(self.bodies.len());
        Self { setup: self.setup.clone(), bodies: self.bodies[..events].to_vec(), keys: self.keys[..events].to_vec() }
    }

    pub fn events(&self) -> u64 {
        self.bodies.len() as u64
    }

    /// The bodies with their routing keys.
    pub fn messages(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        self.keys.iter().cloned().zip(self.bodies.iter().cloned())
    }

    /// The bodies, one a line.
    pub fn file(&self) -> io::Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        fs::write(file.path(), self.bodies.join(&b'\n'))?;
        Ok(file)
    }

    /// Writes what exists before the events.
    async fn set_up(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        match &self.setup {
            Setup::Organizations(orgs) => create_organizations(orgs, connection).await,
            Setup::Statements(statements) => {
                sqlx::raw_sql(AssertSqlSafe(statements.as_str())).execute(connection).await.map(drop)
            }
        }
    }
}

/// With their chats, which people make active before a bot tells anything of them.
async fn create_organizations(orgs: &[Org], connection: &mut PgConnection) -> sqlx::Result<()> {
    let ids: Vec<_> = orgs.iter().map(|org| org.id).collect();
    let names: Vec<_> = orgs.iter().map(|org| org.name.clone()).collect();
    let timezones: Vec<_> = orgs.iter().map(|org| org.timezone).collect();
    let create =
        "insert into organizations (id, name, timezone) select * from unnest($1::uuid[], $2::text[], $3::text[])";
    sqlx::query(create).bind(ids).bind(names).bind(timezones).execute(&mut *connection).await?;
    let chats = orgs.iter().flat_map(|org| org.chats.iter().map(|chat| (org.id, *chat)));
    let (ids, chats): (Vec<_>, Vec<_>) = chats.unzip();
    let create = "insert into org_telegram_groups (org_id, tg_chat_id, status)
        select org_id, tg_chat_id, 'active' from unnest($1::uuid[], $2::bigint[]) as n (org_id, tg_chat_id)";
    sqlx::query(create).bind(ids).bind(chats).execute(connection).await?;
    Ok(())
}

/// The loads so far: many scenarios have the same.
#[derive(Default)]
pub struct Loads(Vec<(Kind, Arc<Load>)>);

/// What tells the loads of a seed apart: organizations, chats and people of each, shares of uneven and redelivered ones, seconds,
/// events.
type Kind = (usize, usize, u64, f64, f64, i64, u64);

impl Loads {
    fn of(&mut self, scenario: &Scenario, options: &Options) -> anyhow::Result<Arc<Load>> {
        if let Some(folder) = scenario.folder {
            return Ok(Arc::new(Load::read(folder)?));
        }
        let events = scenario.events(options);
        let Scenario { orgs, chats, people, uneven, redelivered, span, .. } = *scenario;
        let kind = (orgs, chats, people, uneven, redelivered, span, events);
        if let Some((_, load)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Ok(Arc::clone(load));
        }
        let load = Arc::new(Load::generate(scenario, events, options.seed)?);
        self.0.push((kind, Arc::clone(&load)));
        Ok(load)
    }
}

/// Where the runs of a scenario happen.
pub enum Ground {
    /// Each in a copy of its own.
    Copied { template: Box<Place>, load: Arc<Load> },
    /// All in the same, each with organizations of its own: it is too large to be copied.
    Kept { place: Arc<Place>, seed: u64 },
}

impl Ground {
    pub async fn prepare(scenario: &Scenario, options: &Options, loads: &mut Loads) -> anyhow::Result<Self> {
        let template = Place::template().await;
        if scenario.is_preloaded {
            preload(&mut template.connect().await, options.preload).await?;
            return Ok(Self::Kept { place: Arc::new(with_settings(template, scenario, options)?), seed: options.seed });
        }
        let load = loads.of(scenario, options)?;
        load.set_up(&mut template.connect().await).await?;
        Ok(Self::Copied { template: Box::new(template), load })
    }

    /// The place and the events of the next run.
    pub async fn next(&mut self, scenario: &Scenario, options: &Options) -> anyhow::Result<(Arc<Place>, Arc<Load>)> {
        match self {
            Self::Copied { template, load } => {
                let place = with_settings(template.copy().await, scenario, options)?;
                Ok((Arc::new(place), Arc::clone(load)))
            }
            Self::Kept { place, seed } => {
                *seed += 1000;
                let load = Load::generate(scenario, options.events, *seed)?;
                load.set_up(&mut place.connect().await).await?;
                Ok((Arc::clone(place), Arc::new(load)))
            }
        }
    }
}

fn with_settings(mut place: Place, scenario: &Scenario, options: &Options) -> anyhow::Result<Place> {
    let flags = scenario.settings.iter().map(ToString::to_string).chain(options.set.iter().cloned()).collect();
    let mut settings = Settings::load(&Sources { flags, ..Sources::default() })?;
    settings.database.url = place.settings.database.url.clone();
    settings.broker.url = place.settings.broker.url.clone();
    settings.broker.prefix.clone_from(&place.settings.broker.prefix);
    place.settings = Arc::new(settings);
    Ok(place)
}

/// Messages of organizations that no event belongs to, in the proportions of the load.
async fn preload(connection: &mut PgConnection, rows: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let rows = i64::try_from(rows)?;
    sqlx::query(include_str!("preload.sql")).bind(rows).execute(&mut *connection).await?;
    sqlx::raw_sql("vacuum (analyze) activity_events").execute(&mut *connection).await?;
    eprintln!("load: {rows} rows before, in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
