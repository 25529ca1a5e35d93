//! Where the demo runs: private servers, or the named ones in a database and queues of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use sqlx::AssertSqlSafe;

use crate::{
    broker, database,
    failure::Died,
    servers::Servers,
    settings::{Settings, Sources},
};

/// The servers that the demo uses, with a database and queues of its own.
pub(super) struct Place {
    /// None where the environment names servers.
    servers: Option<Servers>,
    pub(super) settings: Arc<Settings>,
    /// The named server's own database, from which the demo's is created and dropped.
    maintenance: Option<Arc<Settings>>,
    /// For the file of events.
    pub(super) folder: PathBuf,
}

impl Place {
    pub(super) async fn open(dir: &Path) -> anyhow::Result<Self> {
        let name = format!("rollcall_demo_{}", std::process::id());
        let folder = dir.join(&name);
        let create_folder = || fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()));
        if let (Ok(database), Ok(amqp)) = (env::var("DATABASE_URL"), env::var("AMQP_URL")) {
            let maintenance = settings(&database, &amqp, &name)?;
            let mut connection = database::connect_plainly(&maintenance.database).await?;
            // The name is made of letters and this process's id.
            sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut connection).await?;
            let settings = settings(&with_database(&database, &name), &amqp, &name)?;
            create_folder()?;
            return Ok(Self { servers: None, settings, maintenance: Some(maintenance), folder });
        }
        let exe = env::current_exe().context("finding this program")?;
        let dir = dir.to_owned();
        let servers = tokio::task::spawn_blocking(move || Servers::start(&exe, &dir));
        let servers = servers.await.map_err(|_| Died("the start of the servers"))??;
        let settings = settings(servers.database_url(), servers.amqp_url(), &name)?;
        create_folder()?;
        Ok(Self { servers: Some(servers), settings, maintenance: None, folder })
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))?;
        if let Some(servers) = self.servers {
            let stopping = tokio::task::spawn_blocking(move || servers.stop());
            stopping.await.map_err(|_| Died("the stop of the servers"))??;
            remove_if_empty(&self.folder);
            return Ok(());
        }
        remove_if_empty(&self.folder);
        broker::remove(&self.settings.broker).await?;
        if let Some(maintenance) = self.maintenance {
            let mut connection = database::connect_plainly(&maintenance.database).await?;
            let name = &self.settings.broker.prefix;
            sqlx::raw_sql(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut connection).await?;
        }
        Ok(())
    }
}

/// Removes the folder that the demo's own stood in, if nobody else keeps something there.
fn remove_if_empty(folder: &Path) {
    if let Some(parent) = folder.parent() {
        let _ = fs::remove_dir(parent);
    }
}

fn settings(database: &str, amqp: &str, prefix: &str) -> anyhow::Result<Arc<Settings>> {
    let environment = [("DATABASE_URL", database), ("AMQP_URL", amqp), ("ROLLCALL_BROKER__PREFIX", prefix)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Ok(Arc::new(Settings::load(&Sources { environment, ..Sources::default() })?))
}

/// The URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, parameters) = url.split_once('?').map_or((url, ""), |(base, parameters)| (base, parameters));
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{question}{parameters}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_changes() {
        assert_eq!(
            with_database("postgres://u:p@h:5432/a?sslmode=require", "b"),
            "postgres://u:p@h:5432/b?sslmode=require"
        );
        assert_eq!(with_database("postgres://h", "b"), "postgres://h/b");
    }
}
