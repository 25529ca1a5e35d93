//! `rollcall check`

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    broker,
    database::{self, Schema},
    failure::Failure,
    settings::Settings,
};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// Print the effective settings, secrets masked, and check nothing else
    #[arg(long)]
    print: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found out about one thing.
struct Finding {
    what: &'static str,
    /// Good news, or the trouble and what to do about it.
    result: Result<String, (String, String)>,
}

pub(super) async fn run(settings: &Settings, args: &Args) -> Result<(), Failure> {
    if args.print {
        print(settings, args.json);
        return Ok(());
    }
    let findings = [
        Finding { what: "settings", result: Ok("read and sound".into()) },
        Finding { what: "database", result: check_database(settings).await },
        Finding { what: "broker", result: check_broker(settings).await },
    ];
    let troubled: Vec<_> =
        findings.iter().filter(|finding| finding.result.is_err()).map(|finding| finding.what).collect();
    if args.json {
        let shown = findings.iter().map(|finding| match &finding.result {
            Ok(news) => json!({ "what": finding.what, "ok": true, "found": news }),
            Err((trouble, remedy)) => json!({ "what": finding.what, "ok": false, "found": trouble, "remedy": remedy }),
        });
        println!("{}", shown.collect::<Value>());
    } else {
        for Finding { what, result } in &findings {
            match result {
                Ok(news) => println!("{what:<9} ok      {news}"),
                Err((trouble, remedy)) => println!("{what:<9} FAILED  {trouble}\n{:<9} do      {remedy}", ""),
            }
        }
    }
    if troubled.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("not ready: {}", troubled.join(", ")), "do what stands beside each"))
}

fn print(settings: &Settings, as_json: bool) {
    if as_json {
        let sections = settings.shown().into_iter().map(|(section, keys)| {
            let keys = keys
                .into_iter()
                .map(|(key, value)| (key.to_owned(), serde_json::from_str(&value).unwrap_or(Value::String(value))));
            (section.to_owned(), Value::Object(keys.collect()))
        });
        println!("{}", Value::Object(sections.collect()));
        return;
    }
    for (section, keys) in settings.shown() {
        println!("[{section}]");
        for (key, value) in keys {
            println!("{key} = {value}");
        }
        println!();
    }
}

type Checked = Result<String, (String, String)>;

fn trouble<T>(found: impl std::fmt::Display, remedy: &str) -> Result<T, (String, String)> {
    Err((found.to_string(), remedy.to_owned()))
}

async fn check_database(settings: &Settings) -> Checked {
    if settings.database.url.is_empty() {
        return trouble("no URL", "set DATABASE_URL");
    }
    let mut connection = match database::connect_plainly(&settings.database).await {
        Ok(connection) => connection,
        Err(fault) => return trouble(fault, "start PostgreSQL, or correct database.url; the server's log says more"),
    };
    match database::schema(&mut connection).await {
        Ok(Schema::Current) => {}
        Ok(Schema::Behind(missing)) => {
            return trouble(format!("{missing} migrations are missing"), "run rollcall migrate");
        }
        Err(fault) => return trouble(fault, "give the user rights on the schema, or run rollcall migrate"),
    }
    match facts(&mut connection).await {
        Ok(found) => found,
        Err(error) => trouble(database::Fault::from(error), "give the user rights on the tables"),
    }
}

async fn facts(connection: &mut PgConnection) -> sqlx::Result<Checked> {
    let (version, orgs, is_durable, is_read_only): (String, i64, bool, bool) = sqlx::query_as(
        "select current_setting('server_version'), (select count(*) from organizations),
                current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on', pg_is_in_recovery()",
    )
    .fetch_one(connection)
    .await?;
    if is_read_only {
        return Ok(trouble("the server is a standby", "connect to the primary, for example with target_session_attrs"));
    }
    if !is_durable {
        return Ok(trouble("fsync or full_page_writes is off: a crash loses what was acked", "turn both on"));
    }
    Ok(Ok(format!("PostgreSQL {version}, schema current, {orgs} organizations")))
}

async fn check_broker(settings: &Settings) -> Checked {
    if settings.broker.url.is_empty() {
        return trouble("no URL", "set AMQP_URL");
    }
    match broker::inspect(&settings.broker).await {
        Err(error) => {
            trouble(format!("{error:#}"), "start RabbitMQ, or correct broker.url; the server's log says more")
        }
        Ok(queues) => {
            let missing = queues.iter().filter(|queue| queue.messages.is_none()).count();
            let waiting: u64 = queues.iter().filter_map(|queue| queue.messages).map(u64::from).sum();
            // The dead queue is one more.
            let surplus = (queues.len() - 1).saturating_sub(settings.broker.partitions.into());
            Ok(match missing {
                0 if surplus > 0 => format!(
                    "{} queues, {waiting} messages ready; {surplus} more than broker.partitions: \
                     rollcall partitions apply, then prune",
                    queues.len()
                ),
                0 => format!("{} queues, {waiting} messages ready", queues.len()),
                _ => {
                    format!("reachable; {missing} of {} queues are declared by the first publish or run", queues.len())
                }
            })
        }
    }
}
