//! The scoreboard: what all runs of a fault add up to.

use std::fmt::Write as _;

use crate::run::Run;

/// Everything about some runs as one Markdown table, with what has to be known about it.
pub fn board(heading: &str, runs: &[Run]) -> String {
    let mut faults: Vec<&str> = Vec::new();
    for run in runs {
        if !faults.contains(&run.fault.as_str()) {
            faults.push(&run.fault);
        }
    }
    let mut text = format!("{heading}\n\n");
    text += "| fault | runs | happened | confirmed | applied | dead-lettered | ignored | lost | duplicated | unexpected | false dead letters | acks before commit | recovery p50 / p99 ms | peak RSS MB |\n";
    text += "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n";
    for fault in faults {
        let own: Vec<_> = runs.iter().filter(|run| run.fault == fault).collect();
        text += &line(fault, &own);
    }
    text += &line("**all**", &runs.iter().collect::<Vec<_>>());
    text + "\n" + &bound(runs)
}

fn line(name: &str, runs: &[&Run]) -> String {
    let sum = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
    let mut recoveries: Vec<_> = runs.iter().flat_map(|run| run.recoveries_ms.iter().copied()).collect();
    recoveries.sort_unstable();
    let recovery = match (percentile(&recoveries, 50), percentile(&recoveries, 99)) {
        (Some(p50), Some(p99)) => format!("{p50} / {p99}"),
        _ => "–".into(),
    };
    let memory = runs.iter().map(|run| run.peak_memory).max().unwrap_or(0) >> 20;
    format!(
        "| {name} | {} | {}/{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {recovery} | {memory} |\n",
        runs.len(),
        sum(|run| run.reached.into()),
        sum(|run| run.wanted.into()),
        sum(|run| run.confirmed),
        sum(|run| run.applied),
        sum(|run| run.dead_lettered),
        sum(|run| run.ignored),
        sum(|run| run.verdict.lost),
        sum(|run| run.verdict.duplicated),
        sum(|run| run.verdict.unexpected),
        sum(|run| run.verdict.false_dead_letters),
        sum(|run| run.verdict.early_acks),
    )
}

/// The nearest rank.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn bound(runs: &[Run]) -> String {
    let red = runs.iter().filter(|run| !run.verdict.is_clean()).count();
    let void = runs.iter().filter(|run| run.is_void()).count();
    let happened: u64 = runs.iter().map(|run| u64::from(run.reached)).sum();
    let acked: u64 = runs.iter().map(|run| run.acked).sum();
    let mut text = format!(
        "{} runs, {red} red, {void} void (the fault did not happen as often as it was to). {acked} acked deliveries were held until the database or the dead queue showed them.\n",
        runs.len()
    );
    if red == 0 && happened > 0 {
        // The rule of three.
        let _ = writeln!(
            text,
            "No failure in {happened} faults: with 95 % confidence fewer than {:.2} % of such faults do harm (3/n), and fewer than {:.1} % of runs.",
            300.0 / f64::from(u32::try_from(happened).unwrap_or(u32::MAX)),
            300.0 / f64::from(u32::try_from(runs.len()).unwrap_or(u32::MAX)),
        );
    }
    text
}
