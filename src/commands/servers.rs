//! `rollcall servers`: a private PostgreSQL and RabbitMQ, until told to stop.

use std::path::PathBuf;

use crate::servers;

/// Runs a private PostgreSQL and RabbitMQ, and removes both at the end.
///
/// When both are ready, one line of JSON on standard output says where they are. They run until standard input ends
/// (unless it is a terminal), or until SIGINT, SIGTERM or SIGHUP. Until then each line of standard input is a request,
/// answered by one line: `{"stop_postgres":"fast"}` ("immediate", "kill"), `"start_postgres"`,
/// `{"stop_rabbitmq":"graceful"}` ("kill"), `"start_rabbitmq"`, `{"rabbitmqctl":["list_queues"]}`.
///
/// With `ROLLCALL_RABBITMQ_ROOT` set, RabbitMQ runs from that root folder of a Debian, which needs root;
/// tests/debian13.sh makes one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder below which the servers keep their files.
    #[arg(long, value_name = "DIR", default_value = ".rollcall")]
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// Fails when the servers cannot be installed or started, or leave something behind.
pub async fn run(args: Args) -> anyhow::Result<()> {
    servers::own(&args.dir).await
}
