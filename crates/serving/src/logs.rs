//! Structured logs on standard error: text on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is a `tracing` filter such as `info` or `order_service=debug`.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("`{filter}`: {error}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        logs.with_target(false).try_init()
    } else {
        logs.json().flatten_event(true).with_target(false).try_init()
    };
    started.map_err(|error| error.to_string())
}
