//! Named figures of a run, and what becomes of several runs.

use std::collections::BTreeMap;

use serde::Serialize;

/// The figures of a run by name. README.md says what each means.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    pub fn add(&mut self, name: &str, value: f64) {
        *self.0.entry(name.to_owned()).or_default() += value;
    }

    /// Takes over some of another run's.
    pub fn take(&mut self, other: &Self, names: &[&str]) {
        self.0.extend(names.iter().filter_map(|name| Some(((*name).to_owned(), other.get(name)?))));
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// The median of each figure, over the runs that have it.
    pub fn medians<'a>(runs: impl Iterator<Item = &'a Self>) -> Self {
        let mut values: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
        for (name, value) in runs.flat_map(|run| &run.0) {
            values.entry(name).or_default().push(*value);
        }
        Self(values.into_iter().map(|(name, values)| (name.clone(), median(values))).collect())
    }
}

/// The middle, or the mean of the two in the middle; of nothing, no number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The value that so many percent are not above, by nearest rank.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}
