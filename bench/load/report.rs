//! What all runs add up to: one JSON document, and tables for people.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{
    figures::{Figures, median},
    scenarios::Scenario,
    statements::{self, Statement},
};

/// Everything about an invocation.
#[derive(Debug, Serialize)]
pub struct Report {
    pub date: String,
    pub rollcall: BTreeMap<String, String>,
    pub postgresql: String,
    pub rabbitmq: String,
    pub erlang: String,
    pub cores: usize,
    pub settings: Vec<String>,
    pub postgresql_settings: BTreeMap<String, String>,
    pub events: u64,
    pub rounds: u32,
    pub seed: u64,
    pub rate: u32,
    pub preload: u64,
    pub scenarios: Vec<Measured>,
}

impl Report {
    /// Fills in what follows from the runs.
    pub fn conclude(&mut self, scenarios: &[Scenario], programs: &[String]) {
        for measured in &mut self.scenarios {
            measured.conclude(programs, self.cores);
        }
        for (index, scenario) in scenarios.iter().enumerate() {
            let named = |other: &&Measured| scenario.compared_with.contains(&&*other.name);
            let others = self.scenarios.iter().filter(named);
            self.scenarios[index].to_scenarios =
                others.map(|other| self.scenarios[index].compared_with(other, programs)).collect();
        }
    }
}

/// A scenario with all its runs.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: String,
    pub about: String,
    pub settings: Vec<String>,
    pub replicas: usize,
    pub runs: Vec<Done>,
    /// By contender.
    pub medians: BTreeMap<String, Figures>,
    /// Events a second that the cores would allow if only the limits' CPU time were needed.
    pub bound: Option<f64>,
    /// The second program's figures over the first one's, round by round.
    pub comparison: BTreeMap<String, Ratio>,
    /// Events per second over those of other scenarios, round by round.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to_scenarios: Vec<ToScenario>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<Statement>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct Done {
    pub round: u32,
    pub contender: String,
    pub figures: Figures,
}

#[derive(Debug, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Ratio {
    /// Of the rounds' ratios; of none, nothing.
    fn of(rounds: impl Iterator<Item = f64>) -> Option<Self> {
        let ratios: Vec<_> = rounds.filter(|ratio| ratio.is_finite()).collect();
        let lowest = ratios.iter().copied().reduce(f64::min)?;
        let highest = ratios.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(ratios), lowest, highest })
    }
}

/// How a scenario differs from another one.
#[derive(Debug, Serialize)]
pub struct ToScenario {
    pub scenario: String,
    /// By program.
    pub events_per_s: BTreeMap<String, Ratio>,
}

pub const ACK: &str = "ack limit";
pub const SQL: &str = "SQL limit";
pub const BOTH: &str = "both limits";

impl Measured {
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            settings: scenario.settings.iter().map(ToString::to_string).collect(),
            replicas: scenario.replicas,
            runs: Vec::new(),
            medians: BTreeMap::new(),
            bound: None,
            comparison: BTreeMap::new(),
            to_scenarios: Vec::new(),
            statements: Vec::new(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "cores")]
    fn conclude(&mut self, programs: &[String], cores: usize) {
        let names: Vec<_> = self.runs.iter().map(|run| run.contender.clone()).collect();
        for name in names {
            let own = self.runs.iter().filter(|run| run.contender == name).map(|run| &run.figures);
            let medians = Figures::medians(own);
            self.medians.insert(name, medians);
        }
        let of = |contender, name| self.medians.get(contender).and_then(|figures: &Figures| figures.get(name));
        let unit = of(ACK, "cpu_client_us").zip(of(ACK, "cpu_broker_us")).map(|(client, broker)| client + broker);
        let sql = of(SQL, "cpu_client_us").zip(of(SQL, "cpu_postgres_us")).map(|(client, postgres)| client + postgres);
        self.bound = unit.zip(sql).map(|(unit, sql)| cores as f64 * 1e6 / (unit + sql));
        let both = of(BOTH, "events_per_s");
        for program in programs {
            let Some(figures) = self.medians.get_mut(program) else { continue };
            if let Some((rate, bound)) = figures.get("events_per_s").zip(self.bound) {
                figures.set("ratio_to_bound", rate / bound);
            }
            if let Some((rate, both)) = figures.get("events_per_s").zip(both) {
                figures.set("ratio_to_both", rate / both);
            }
            for part in ["client", "postgres"] {
                if let Some((used, unit)) = figures.get(&format!("cpu_{part}_us")).zip(unit) {
                    figures.set(&format!("units_{part}"), used / unit);
                }
            }
        }
        if let [first, second] = programs {
            self.compare(first, second);
        }
    }

    fn compare(&mut self, first: &str, second: &str) {
        for &name in COMPARED {
            let ratio = |round| Some(self.figure(second, round, name)? / self.figure(first, round, name)?);
            if let Some(ratio) = Ratio::of(self.rounds().filter_map(ratio)) {
                self.comparison.insert(name.to_owned(), ratio);
            }
        }
    }

    /// Its programs' events per second over those in another scenario.
    pub fn compared_with(&self, other: &Self, programs: &[String]) -> ToScenario {
        let ratio = |program: &String| {
            let rate = |of: &Self, round| of.figure(program, round, "events_per_s");
            let ratio = Ratio::of(self.rounds().filter_map(|round| Some(rate(self, round)? / rate(other, round)?)))?;
            Some((program.clone(), ratio))
        };
        ToScenario { scenario: other.name.clone(), events_per_s: programs.iter().filter_map(ratio).collect() }
    }

    fn rounds(&self) -> impl Iterator<Item = u32> {
        1..=self.runs.iter().map(|run| run.round).max().unwrap_or(0)
    }

    fn figure(&self, contender: &str, round: u32, name: &str) -> Option<f64> {
        self.runs.iter().find(|run| run.contender == contender && run.round == round)?.figures.get(name)
    }
}

/// What a change to the worker can change.
const COMPARED: &[&str] = &[
    "events_per_s",
    "cpu_client_us",
    "cpu_broker_us",
    "cpu_postgres_us",
    "wal_bytes",
    "buffer_hits",
    "round_trips",
    "peak_rss_mb",
    "events_per_transaction",
    "latency_p50_ms",
    "latency_p99_ms",
    "takeover_ms",
    "join_ms",
];

/// The columns: a heading, a figure, and its decimals.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("events/s", "events_per_s", 0),
    ("of bound", "ratio_to_bound", 2),
    ("of both", "ratio_to_both", 2),
    ("client µs", "cpu_client_us", 1),
    ("broker µs", "cpu_broker_us", 1),
    ("PG µs", "cpu_postgres_us", 1),
    ("units client", "units_client", 2),
    ("units PG", "units_postgres", 2),
    ("ev/tx", "events_per_transaction", 0),
    ("trips/ev", "round_trips", 4),
    ("trips/tx", "round_trips_per_transaction", 1),
    ("WAL B", "wal_bytes", 0),
    ("hits", "buffer_hits", 1),
    ("ins", "rows_inserted", 2),
    ("upd", "rows_updated", 2),
    ("hot", "rows_hot_updated", 2),
    ("RSS MB", "peak_rss_mb", 0),
];

/// Figures that few scenarios have, each told in words.
const NOTES: &[(&str, &str, &str)] = &[
    ("again_to_fresh_rate", "events/s over those of the first time", ""),
    ("again_to_fresh_wal", "WAL over that of the first time", ""),
    ("delivery_p50_ms", "publish to delivery p50", " ms"),
    ("delivery_p99_ms", "publish to delivery p99", " ms"),
    ("latency_p50_ms", "publish to ack p50", " ms"),
    ("latency_p99_ms", "publish to ack p99", " ms"),
    ("latency_p100_ms", "publish to ack, longest", " ms"),
    ("met_share", "share of transactions that met another replica's", ""),
    ("takeover_ms", "SIGKILL until another acked in every partition", " ms"),
    ("join_ms", "start until it acked in every partition that it prefers", " ms"),
];

/// All scenarios, for people.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "PostgreSQL {}, RabbitMQ {}, Erlang {}, {} cores; {} events, {} rounds, {}\n",
        report.postgresql, report.rabbitmq, report.erlang, report.cores, report.events, report.rounds, report.date
    );
    for (program, version) in &report.rollcall {
        let _ = writeln!(text, "{program}: {version}");
    }
    for scenario in &report.scenarios {
        let bound = scenario.bound.map(|bound| format!("; bound {bound:.0} events/s")).unwrap_or_default();
        let _ = writeln!(text, "\n{}: {}{bound}", scenario.name, scenario.about);
        text += &table(scenario);
        for (contender, figures) in &scenario.medians {
            for (name, meaning, unit) in NOTES {
                if let Some(value) = figures.get(name) {
                    let _ = writeln!(text, "{contender}: {meaning}: {value:.2}{unit}");
                }
            }
        }
        for ToScenario { scenario, events_per_s } in &scenario.to_scenarios {
            for (program, Ratio { median, lowest, highest }) in events_per_s {
                let _ = writeln!(
                    text,
                    "{program}: events/s over those of {scenario}: {median:.2}   ({lowest:.2} to {highest:.2})"
                );
            }
        }
        for (name, Ratio { median, lowest, highest }) in &scenario.comparison {
            let _ = writeln!(text, "worker B / worker A: {name:<22} {median:.3}   ({lowest:.3} to {highest:.3})");
        }
        text += &statements::table(&scenario.statements);
    }
    text
}

fn table(scenario: &Measured) -> String {
    let contenders = || scenario.medians.iter();
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(_, name, _)| contenders().any(|(_, own)| own.get(name).is_some())).collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(columns.iter().map(|(heading, ..)| (*heading).to_owned()));
    for (contender, figures) in contenders() {
        let mut row = vec![contender.clone()];
        row.extend(columns.iter().map(|&&(_, name, decimals)| {
            figures.get(name).map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
        }));
        rows.push(row);
    }
    aligned(&rows)
}

/// The first column to the left, the others to the right.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            let _ = if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}
