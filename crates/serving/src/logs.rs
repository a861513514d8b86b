//! Structured logs on standard error: text on a terminal, one JSON object a line otherwise.

mod lock_waits;

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use lock_waits::WithoutLockWaits;

/// Starts logging. `filter` is a `tracing` filter such as `info` or `order_service=debug`.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("`{filter}`: {error}"))?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = if std::io::stderr().is_terminal() {
        tracing_subscriber::registry().with(filter).with(lines.with_filter(WithoutLockWaits)).try_init()
    } else {
        let lines = lines.json().flatten_event(true).with_filter(WithoutLockWaits);
        tracing_subscriber::registry().with(filter).with(lines).try_init()
    };
    started.map_err(|error| error.to_string())
}

/// Tells the log why the program ends, in the words that it prints at its end: who reads logs only knows it, too. A terminal
/// has read them anyway.
pub fn gave_up(reason: &str) {
    if !std::io::stderr().is_terminal() {
        tracing::error!(code = "UNAVAILABLE", "{reason}");
    }
}
