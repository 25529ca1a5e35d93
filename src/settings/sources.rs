//! Where settings come from, merged, with the origin of each for the errors.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::{Table, Value};

use super::{DEFAULTS, value::Setting};

/// What was given on top of the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file's name and text.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables, also those that are none of ours.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`.
    pub flags: Vec<String>,
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub problem: String,
    /// Where it was said.
    pub origin: String,
}

/// Everything that is wrong with the settings; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<_> = self.0.iter().map(|fault| format!("{} ({})", fault.problem, fault.origin)).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for Faults {}

type Key = (String, String);

/// The winning value of every setting with its origin.
pub(super) struct Merged {
    defaults: BTreeMap<Key, Value>,
    given: BTreeMap<Key, (Value, String)>,
}

impl Merged {
    pub(super) fn read(sources: &Sources) -> (Self, Vec<Fault>) {
        let defaults = DEFAULTS.parse::<Table>().expect("the compiled-in defaults are TOML");
        let mut merged = Self { defaults: flat(defaults).0, given: BTreeMap::new() };
        let mut faults = Vec::new();
        if let Some((path, text)) = &sources.file {
            merged.add_file(&path.display().to_string(), text, &mut faults);
        }
        for (name, value) in &sources.environment {
            let key = match name.as_str() {
                "DATABASE_URL" => ("database".into(), "url".into()),
                "AMQP_URL" => ("broker".into(), "url".into()),
                // Others with this prefix may be anybody's: Kubernetes sets ROLLCALL_SERVICE_HOST.
                _ => match name.strip_prefix("ROLLCALL_").and_then(|name| name.split_once("__")) {
                    Some((section, key)) => (section.to_lowercase(), key.to_lowercase()),
                    None => continue,
                },
            };
            merged.add(key, literal(value), name.clone(), &mut faults);
        }
        for flag in &sources.flags {
            match flag.split_once('=').and_then(|(key, value)| Some((key.split_once('.')?, value))) {
                Some(((section, key), value)) => {
                    merged.add(
                        (section.into(), key.into()),
                        literal(value),
                        format!("--set {section}.{key}"),
                        &mut faults,
                    );
                }
                None => {
                    faults.push(Fault { problem: "a flag must be section.key=value".into(), origin: "--set".into() });
                }
            }
        }
        (merged, faults)
    }

    fn add_file(&mut self, name: &str, text: &str, faults: &mut Vec<Fault>) {
        match text.parse::<Table>() {
            Ok(table) => {
                let (values, strays) = flat(table);
                for (key, value) in values {
                    self.add(key, value, name.to_owned(), faults);
                }
                faults.extend(
                    strays
                        .into_iter()
                        .map(|key| Fault { problem: format!("{key} is no section"), origin: name.to_owned() }),
                );
            }
            Err(error) => {
                // The parser's own text would quote the line, which may hold a password.
                let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
                faults.push(Fault { problem: format!("line {line} is not TOML"), origin: name.to_owned() });
            }
        }
    }

    /// Later sources are added later and win.
    fn add(&mut self, key: Key, value: Value, origin: String, faults: &mut Vec<Fault>) {
        if self.defaults.contains_key(&key) {
            self.given.insert(key, (value, origin));
        } else {
            faults.push(Fault { problem: format!("{}.{} is no setting", key.0, key.1), origin });
        }
    }

    pub(super) fn get<T: Setting>(&self, section: &str, key: &str, faults: &mut Vec<Fault>) -> T {
        let name = (section.to_owned(), key.to_owned());
        if let Some((value, _)) = self.given.get(&name) {
            match T::parse(value) {
                Ok(value) => return value,
                Err(problem) => faults.push(self.fault(section, key, &problem)),
            }
        }
        let default = self.defaults.get(&name).and_then(|value| T::parse(value).ok());
        default.unwrap_or_else(|| panic!("the compiled-in default of {section}.{key} is missing or of the wrong type"))
    }

    pub(super) fn fault(&self, section: &str, key: &str, problem: &str) -> Fault {
        let origin =
            self.given.get(&(section.to_owned(), key.to_owned())).map_or("default", |(_, origin)| origin.as_str());
        Fault { problem: format!("{section}.{key} {problem}"), origin: origin.to_owned() }
    }
}

/// The values of all sections, and the keys that stand outside of one.
fn flat(table: Table) -> (BTreeMap<Key, Value>, Vec<String>) {
    let mut values = BTreeMap::new();
    let mut strays = Vec::new();
    for (section, value) in table {
        match value {
            Value::Table(keys) => values.extend(keys.into_iter().map(|(key, value)| ((section.clone(), key), value))),
            _ => strays.push(section),
        }
    }
    (values, strays)
}

/// Text from outside a file as the value that it looks like.
fn literal(text: &str) -> Value {
    let text = text.trim();
    text.parse()
        .map(Value::Integer)
        .or_else(|_| text.parse().map(Value::Boolean))
        .unwrap_or_else(|_| Value::String(text.into()))
}
