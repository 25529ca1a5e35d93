//! The database's certificate expires, and is renewed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
    sync::Arc,
    time::Instant,
};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::{
    Fault, Reach,
    database::{change, superuser, terminate_backends},
    disk::owner,
};
use crate::scene::Scene;

const VALID: [&str; 2] = ["20260101000000Z", "20991231000000Z"];
const EXPIRED: [&str; 2] = ["20250101000000Z", "20260101000000Z"];

pub(super) fn fault() -> Fault {
    Fault {
        reach: Reach::Servers,
        in_halves: true,
        has_what_it_needs: || match Command::new("openssl").arg("version").output() {
            Ok(told) if told.status.success() => Ok(()),
            _ => Err("needs openssl"),
        },
        ..super::fault("database: the TLS certificate expires and is renewed", super::Act::ExpiredCertificate)
    }
}

/// An authority that nobody else trusts, and a server's key.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(TempDir::new().unwrap());
        let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n\
            default_md = sha256\npolicy = any\nunique_subject = no\nx509_extensions = server\n\
            [any]\ncommonName = supplied\n[server]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
        fs::write(authority.0.path().join("config"), config).unwrap();
        fs::write(authority.0.path().join("index"), "").unwrap();
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca");
        authority.openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server");
        authority
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Puts a certificate for this time, and its key, into PostgreSQL's folder.
    fn certify(&self, [start, end]: [&str; 2], folder: &Path, (uid, gid): (u32, u32)) {
        self.openssl(&format!(
            "ca -batch -notext -config config -cert ca.pem -keyfile ca.key -in server.csr -out server.crt \
             -startdate {start} -enddate {end}"
        ));
        for file in ["server.crt", "server.key"] {
            let there = folder.join(file);
            fs::copy(self.0.path().join(file), &there).unwrap();
            chown(&there, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&there, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

pub(super) async fn happen(scene: &mut Scene) -> Result<(), String> {
    scene.wanted = 1;
    let servers = scene.servers.expect("servers of the harness's own");
    let owner = owner(servers.postgres_pid());
    let folder: String =
        sqlx::query_scalar("show data_directory").fetch_one(&mut superuser(scene).await).await.unwrap();
    let folder = Path::new(&folder);
    let authority = Arc::new(Authority::new());
    authority.certify(VALID, folder, owner);
    let kept = Arc::clone(&authority);
    let base = servers.database_url().to_owned();
    scene.undo.push(Box::pin(async move {
        let mut connection = PgConnection::connect(&base).await.unwrap();
        for statement in ["alter system reset ssl", "select pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        }
        // Until here replicas read the authority's certificate.
        drop(kept);
    }));
    change(scene, "alter system set ssl = on").await;
    change(scene, "select pg_reload_conf()").await;

    let url = scene.place.settings.database.url.expose();
    let (server, _) = url.split_once('?').expect("parameters");
    let ca = authority.0.path().join("ca.pem");
    scene.set_variable("DATABASE_URL", format!("{server}?sslmode=verify-full&sslrootcert={}", ca.display()));
    scene.replace(0).await;
    scene.publish_rest();
    grows(scene).await?;
    let encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
        where ssl and application_name = 'rollcall' and datname = current_database()";
    // What grew may be the last of the replica before.
    scene
        .until("the worker's connections are encrypted", async || {
            let count = sqlx::query_scalar::<_, i64>(encrypted).fetch_one(&mut superuser(scene).await).await;
            count.unwrap() > 0
        })
        .await?;

    authority.certify(EXPIRED, folder, owner);
    change(scene, "select pg_reload_conf()").await;
    terminate_backends(scene).await?;
    scene.told("xpired").await?;
    authority.certify(VALID, folder, owner);
    change(scene, "select pg_reload_conf()").await;
    let since = Instant::now();
    scene.publish_share();
    grows(scene).await?;
    scene.recoveries.push(since.elapsed());
    scene.reached += 1;
    Ok(())
}

/// Waits until there are more rows: no proxy can look into these connections.
async fn grows(scene: &Scene) -> Result<(), String> {
    let mut connection = superuser(scene).await;
    let mut rows = async || -> i64 {
        sqlx::query_scalar("select count(*) from activity_events").fetch_one(&mut connection).await.unwrap()
    };
    let before = rows().await;
    scene.until("there are more rows", async || rows().await > before).await
}
