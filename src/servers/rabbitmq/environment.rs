//! The files and variables that make a node independent of the system's.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;

use super::{Ports, USER};
use crate::servers::folder::write_private;
use crate::servers::secret::Secret;

// Also for the second Erlang that RabbitMQ starts for a moment to make sure of epmd: with ours gone, that one would
// leave behind a daemon of its own.
const ERLANG_FLAGS: &str = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";

/// Writes the node's settings to its home.
pub(super) fn write_files(home: &Path, ports: &Ports, password: &Secret) -> Result<()> {
    let settings = [
        &format!("listeners.tcp.local = 127.0.0.1:{}", ports.amqp),
        &format!("default_user = {USER}"),
        &format!("default_pass = {}", password.expose()),
        "vm_memory_high_watermark.relative = 0.4",
        "disk_free_limit.absolute = 50MB",
        "",
    ];
    write_private(&home.join("rabbitmq.conf"), &settings.join("\n"), None)?;
    write_private(&home.join("enabled_plugins"), "[rabbitmq_consistent_hash_exchange].\n", None)?;
    write_private(&home.join(".erlang.cookie"), Secret::random().expose(), None)?;
    // These two stand in for the system-wide ones.
    write_private(&home.join("rabbitmq-env.conf"), "", None)?;
    write_private(&home.join("advanced.config"), "[].\n", None)
}

/// The variables for all of a node's programs, with its home as they see it.
pub(super) fn variables(home: &Path, ports: &Ports) -> Vec<(&'static str, OsString)> {
    vec![
        ("HOME", home.into()),
        ("ERL_AFLAGS", ERLANG_FLAGS.into()),
        ("ERL_EPMD_PORT", ports.epmd.to_string().into()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
        ("RABBITMQ_NODENAME", format!("rollcall-{}@localhost", ports.amqp).into()),
        ("RABBITMQ_DIST_PORT", ports.distribution.to_string().into()),
        ("RABBITMQ_CONF_ENV_FILE", home.join("rabbitmq-env.conf").into()),
        ("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf").into()),
        ("RABBITMQ_CONFIG_FILES", home.join("conf.d").into()),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("advanced.config").into()),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins").into()),
        ("RABBITMQ_MNESIA_BASE", home.join("mnesia").into()),
        ("RABBITMQ_GENERATED_CONFIG_DIR", home.join("config").into()),
        ("RABBITMQ_SCHEMA_DIR", home.join("schema").into()),
        ("RABBITMQ_LOG_BASE", home.into()),
        // To standard output, so that one file has the log and what Erlang says when it cannot even log.
        ("RABBITMQ_LOGS", "-".into()),
        // The script then becomes the Erlang machine; otherwise it stays in between, and signals end with it.
        ("RUNNING_UNDER_SYSTEMD", "true".into()),
    ]
}
