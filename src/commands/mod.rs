//! The commands, one file each.

mod check;
mod dead;
mod demo;
mod migrate;
mod partitions;
mod publish;
mod run;
mod servers;
mod status;
mod table;

use std::{env, fs, path::PathBuf, sync::Arc};

use clap::{Parser, Subcommand};

use crate::{
    failure::{Failure, Remedy as _},
    settings::{self, SecretUrl, Settings, Sources},
};

/// Applies Telegram community events from RabbitMQ to PostgreSQL: any order, any number of deliveries,
/// the same rows.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(flatten)]
    sources: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct SettingsArgs {
    /// Settings file instead of config/rollcall.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the worker until SIGTERM or SIGINT
    Run,
    /// Bring the database's schema up to date
    Migrate,
    /// Check settings, database and broker, and say what to do about what is wrong
    Check(check::Args),
    /// Show partitions and dead letters: how much waits, how fast it goes, which replica each prefers
    Status(status::Args),
    /// Change the number of partitions without losing anything
    #[command(subcommand)]
    Partitions(partitions::Command),
    /// Publish events, one JSON object a line
    Publish(publish::Args),
    /// Look after dead letters: see what failed and why, replay it, give it up
    #[command(subcommand)]
    Dead(Box<dead::Command>),
    /// Show the whole job on private servers and leave nothing behind
    Demo(demo::Args),
    /// Run private PostgreSQL and RabbitMQ servers for development until stdin ends or Ctrl-C
    Servers(servers::Args),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// What to print and the exit code.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            // These two bring their own servers, or take their URLs from the environment alone.
            Command::Servers(args) => servers::run(args).await.remedy("the lines above say what was being done"),
            Command::Demo(args) => demo::run(&args).await,
            Command::Run => run::run(self.sources.settings()?).await,
            // Needs no settings, and must not fail for want of them.
            Command::Dead(command) if matches!(*command, dead::Command::Decode) => dead::decode(),
            Command::Dead(command) => dead::run(&*self.sources.settings()?, *command).await,
            Command::Migrate => migrate::run(&*self.sources.settings()?).await,
            Command::Check(args) => check::run(&*self.sources.settings()?, &args).await,
            Command::Status(args) => status::run(&*self.sources.settings()?, &args).await,
            Command::Partitions(command) => partitions::run(&*self.sources.settings()?, &command).await,
            Command::Publish(args) => publish::run(&self.sources.settings()?, &args).await,
        }
    }
}

impl SettingsArgs {
    fn settings(&self) -> Result<Arc<Settings>, Failure> {
        let file = match Settings::file(self.config.as_ref()) {
            None => None,
            Some(path) => match fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => {
                    return Err(Failure::usage(
                        format!("reading {}: {error}", path.display()),
                        "name a readable file with --config",
                    ));
                }
            },
        };
        let environment =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let sources = Sources { file, environment: environment.collect(), flags: self.set.clone() };
        Settings::load(&sources).map(Arc::new).map_err(|faults| {
            let remedy = format!(
                "correct what is named above; config/default.toml explains every setting ({} wrong)",
                faults.0.len()
            );
            Failure::usage(faults, remedy)
        })
    }
}

/// The URL, which the command cannot do without.
fn required<'a>(url: &'a SecretUrl, setting: &str, variable: &str) -> Result<&'a SecretUrl, Failure> {
    if url.is_empty() {
        return Err(Failure::usage(
            format!("{setting} is not set"),
            format!("set {variable}, or {setting} in {}", settings::DEFAULT_FILE),
        ));
    }
    Ok(url)
}

fn needs_database(settings: &Settings) -> Result<(), Failure> {
    required(&settings.database.url, "database.url", "DATABASE_URL").map(|_| ())
}

fn needs_broker(settings: &Settings) -> Result<(), Failure> {
    required(&settings.broker.url, "broker.url", "AMQP_URL").map(|_| ())
}

const CHECK: &str = "run rollcall check: it says what is wrong and what to do";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
