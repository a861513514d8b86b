//! Structured logs on stderr: text on a terminal, otherwise JSON lines. Logging never blocks or
//! fails the program; lost lines are counted.

mod lock_waits;
mod panic_hook;
mod writer;

use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::field::Field;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing::{Level, Metadata};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use lock_waits::LockWaitFilter;
use writer::LogWriter;

/// Crates whose log lines contain no secrets at any level: the platform's own.
const OWN_CRATES: [&str; 16] = [
    "access",
    "configurator",
    "data_manager",
    "events",
    "ledger",
    "ledger_nats",
    "openapi",
    "order_service",
    "queue",
    "queue_sqs",
    "reconcile",
    "serving",
    "settings",
    "store",
    "tasks",
    "terminal",
];

/// How long the process waits at exit for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static LOG_WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Starts logging, including panics. `filter` is a `tracing` filter such as `info` or
/// `order_service=debug`. Libraries are limited to `info` regardless: below it they log addresses
/// with passwords, statements and messages.
pub fn start_logging(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(cap_trace_level(filter, STATIC_MAX_LEVEL))
        .map_err(|error| format!("`{filter}`: {error}"))?;
    let writer = LogWriter::spawn(std::io::stderr())
        .map_err(|error| format!("the thread that logs: {error}"))?;
    // With internal errors enabled, the layer would report its writer's errors on stderr and panic
    // if stderr is closed.
    let layer =
        fmt::layer().with_writer(writer.clone()).log_internal_errors(false).with_target(false);
    let layer = if std::io::stderr().is_terminal() {
        layer.fmt_fields(printable_fields()).boxed()
    } else {
        layer.json().flatten_event(true).with_ansi(false).boxed()
    };
    let _ = LOG_WRITER.set(writer);
    let started = registry()
        .with(filter)
        .with(layer.with_filter(filter_fn(is_loggable).and(LockWaitFilter)))
        .try_init();
    started.map_err(|error| error.to_string())?;
    panic_hook::install_panic_hook();
    Ok(())
}

/// Replaces `trace` by `debug` if that level is not compiled in: otherwise the library prints a
/// coloured warning into the log. Span filters are unchanged.
fn cap_trace_level(filter: &str, max_level: LevelFilter) -> String {
    if max_level >= LevelFilter::TRACE || filter.contains('[') {
        return filter.to_owned();
    }
    filter.split(',').map(cap_directive).collect::<Vec<_>>().join(",")
}

fn cap_directive(directive: &str) -> String {
    match directive.rsplit_once('=') {
        Some((target, level)) if is_trace_level(level) => format!("{target}=debug"),
        None if is_trace_level(directive) => "debug".to_owned(),
        // A target without a level enables all levels.
        None if !directive.trim().is_empty()
            && directive.trim().parse::<LevelFilter>().is_err() =>
        {
            format!("{directive}=debug")
        }
        _ => directive.to_owned(),
    }
}

fn is_trace_level(level: &str) -> bool {
    level.trim().parse().is_ok_and(|level: LevelFilter| level == LevelFilter::TRACE)
}

/// Number of lines lost so far, because the queue was full or a write failed.
pub fn lost_line_count() -> u64 {
    LOG_WRITER.get().map_or(0, LogWriter::lost_count)
}

/// Waits up to `FLUSH_TIMEOUT` for pending lines, before the process exits.
pub fn flush_logs() {
    if let Some(lines) = LOG_WRITER.get() {
        lines.flush(FLUSH_TIMEOUT);
    }
}

/// Field formatter for terminals: escapes control characters in values.
fn printable_fields() -> impl for<'writer> FormatFields<'writer> {
    fmt::format::debug_fn(write_field).delimited(" ")
}

fn write_field(
    writer: &mut fmt::format::Writer<'_>,
    field: &Field,
    value: &dyn Debug,
) -> std::fmt::Result {
    let text = format!("{value:?}");
    let text = terminal::escape_control_chars(&text);
    if field.name() == "message" {
        write!(writer, "{text}")
    } else {
        write!(writer, "{field}={text}")
    }
}

/// Logs why the program exits, in the words printed on stderr, for readers of JSON logs. A terminal
/// shows that text anyway.
pub fn log_fatal(reason: &str) {
    if !std::io::stderr().is_terminal() {
        tracing::error!(code = "UNAVAILABLE", "{reason}");
    }
}

fn is_loggable(line: &Metadata<'_>) -> bool {
    let source = line.target().split("::").next().unwrap_or_default();
    *line.level() <= Level::INFO || OWN_CRATES.contains(&source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_not_compiled_in_is_asked_for_as_the_last_one_that_is() {
        for (filter, capped) in [
            ("trace", "debug"),
            ("info", "info"),
            ("info,h2=TRACE,store=warn", "info,h2=debug,store=warn"),
            ("order_service", "order_service=debug"),
            ("", ""),
            ("[span]=trace", "[span]=trace"),
        ] {
            assert_eq!(cap_trace_level(filter, LevelFilter::DEBUG), capped);
            assert_eq!(cap_trace_level(filter, LevelFilter::TRACE), filter);
        }
    }

    #[test]
    fn a_line_for_a_terminal_is_one_line_and_steers_nothing() {
        #[derive(Clone, Default)]
        struct CapturedOutput(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for CapturedOutput {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let written = CapturedOutput::default();
        let out = written.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || out.clone());
        let subscriber = registry().with(lines.fmt_fields(printable_fields()));
        tracing::subscriber::with_default(subscriber, || {
            let said = "\u{1b}[2Jgone\u{9b}31m\nINFO forged";
            let _span = tracing::info_span!("call", id = %said).entered();
            tracing::info!(error = %said, count = 7, "peer said {said}");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let said = "\\u{1b}[2Jgone\\u{9b}31m\\nINFO forged";
        assert!(text.contains(&format!("peer said {said} error={said} count=7")), "{text}");
        assert!(text.contains(&format!("call{{id={said}}}")), "{text}");
        assert_eq!(text.matches(|c: char| c.is_control()).count(), 1, "{text}");
    }

    #[test]
    fn libraries_are_not_heard_below_info() {
        struct CapturedLines(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
        impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for CapturedLines {
            fn on_event(
                &self,
                line: &tracing::Event<'_>,
                _: tracing_subscriber::layer::Context<'_, S>,
            ) {
                self.0.lock().unwrap().push(format!(
                    "{} {}",
                    line.metadata().target(),
                    line.metadata().level()
                ));
            }
        }
        let captured = std::sync::Arc::default();
        let subscriber = registry().with(EnvFilter::new("trace,async_nats=trace")).with(
            CapturedLines(std::sync::Arc::clone(&captured)).with_filter(filter_fn(is_loggable)),
        );
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "async_nats::connector", "nats://u:canary@h");
            tracing::trace!(target: "storefront", "not ours");
            tracing::info!(target: "async_nats", "connected");
            tracing::debug!(target: "store::connect", "ours");
        });
        assert_eq!(*captured.lock().unwrap(), ["async_nats INFO", "store::connect DEBUG"]);
    }
}
