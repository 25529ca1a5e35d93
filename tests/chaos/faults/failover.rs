//! The primary dies, and a standby that has all of its commits takes its place.

use std::{
    fs::File,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Instant,
};

use rollcall::servers::{PostgresStop, Servers};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{
    Fault, Reach,
    database::{change, superuser},
    disk::owner,
};
use crate::{
    postgres_log::PostgresLog,
    scene::Scene,
    support::{postgres_log, proxy::Proxy},
};

/// Transactions that the standby refuses before it is promoted.
const REFUSED: usize = 3;

pub(super) fn fault() -> Fault {
    Fault {
        reach: Reach::Servers,
        in_halves: true,
        ..super::fault("database: failover to a synchronous standby", super::Act::Failover)
    }
}

/// A streaming standby of the harness's PostgreSQL.
struct Standby {
    child: Child,
    url: String,
    /// Removed after the server is gone.
    _folder: TempDir,
}

impl Standby {
    async fn of(servers: &Servers) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let (uid, gid) = owner(servers.postgres_pid());
        chown(folder.path(), Some(uid), Some(gid)).map_err(|error| error.to_string())?;
        let data = folder.path().join("data");
        let mut copy = command(servers, "pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(&data);
        copy.arg("--dbname").arg(format!("{}?application_name=standby", servers.database_url()));
        let copied = copy.output().await.map_err(|error| error.to_string())?;
        if !copied.status.success() {
            return Err(format!("pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr)));
        }
        let port = free_port();
        let mut postgres = command(servers, "postgres");
        postgres.arg("-D").arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "dynamic_shared_memory_type=mmap",
            "max_connections=200",
            "log_line_prefix=%m [%p] %e %d ",
        ] {
            postgres.args(["-c", setting]);
        }
        // Into the primary's log: what the worker is told stands in one place.
        let log = File::options().append(true).open(postgres_log().expect("servers of the harness's own")).unwrap();
        let child = postgres.stdout(log.try_clone().unwrap()).stderr(log).spawn().map_err(|error| error.to_string())?;
        let url = servers.database_url().replace(&format!(":{}/", port_of(servers)), &format!(":{port}/"));
        Ok(Self { child, url: format!("{url}?sslmode=disable"), _folder: folder })
    }

    async fn promote(&self) -> Result<(), String> {
        let mut connection = PgConnection::connect(&self.url).await.map_err(|error| error.to_string())?;
        let promoted = sqlx::query_scalar::<_, bool>("select pg_promote()").fetch_one(&mut connection).await;
        if promoted.map_err(|error| error.to_string())? { Ok(()) } else { Err("the standby is not promoted".into()) }
    }

    async fn end(mut self) {
        if let Some(pid) = self.child.id() {
            super::signal("QUIT", pid);
        }
        self.child.wait().await.unwrap();
    }
}

/// A program of the PostgreSQL that runs, as the user that it runs as, which ends with this process.
fn command(servers: &Servers, program: &str) -> Command {
    let pid = servers.postgres_pid();
    let running: PathBuf = std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).unwrap();
    let (uid, gid) = owner(pid);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if owner(std::process::id()).0 == 0 {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.arg("--").arg(running.with_file_name(program)).current_dir("/").kill_on_drop(true);
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn port_of(servers: &Servers) -> u16 {
    let (_, address) = servers.database_url().rsplit_once(':').expect("a port");
    address.split('/').next().unwrap().parse().unwrap()
}

pub(super) async fn happen(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    let servers = scene.servers.expect("servers of the harness's own");
    let standby = Standby::of(servers).await?;
    let mut in_its_place = None;
    let outcome = fail_over(scene, servers, &standby, &mut in_its_place).await;
    scene.undo.push(Box::pin(async move {
        if let Some(proxy) = in_its_place {
            proxy.close().await;
        }
        standby.end().await;
        tokio::task::spawn_blocking(|| servers.start_postgres()).await.unwrap().unwrap();
        let mut primary = PgConnection::connect(servers.database_url()).await.unwrap();
        for statement in ["alter system reset synchronous_standby_names", "select pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut primary).await.unwrap();
        }
    }));
    outcome
}

async fn fail_over(
    scene: &mut Scene,
    servers: &Servers,
    standby: &Standby,
    in_its_place: &mut Option<Proxy>,
) -> Result<(), String> {
    change(scene, "alter system set synchronous_standby_names = 'standby'").await;
    change(scene, "select pg_reload_conf()").await;
    let mut primary = superuser(scene).await;
    let is_synchronous = async || {
        let count = "select count(*) from pg_stat_replication where sync_state = 'sync'";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut primary).await.unwrap() == 1
    };
    scene.until("the standby is synchronous", is_synchronous).await?;
    let log = PostgresLog::from_now().expect("servers of the harness's own");

    scene.publish_rest();
    scene.progress().await?;
    scene.with_servers(|servers| servers.stop_postgres(PostgresStop::Kill)).await?;
    // The worker, and who judges it, find the standby where the primary was.
    *in_its_place = Some(Proxy::in_the_place_of(port_of(servers), &standby.url).await);
    let is_refused = async || log.errors(&scene.place.name, &["25006"]).len() >= REFUSED;
    scene.until("the standby refuses to write", is_refused).await?;
    let since = Instant::now();
    standby.promote().await?;
    scene.recovered(since).await
}
