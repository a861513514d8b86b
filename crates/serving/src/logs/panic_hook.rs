//! What a panic comes to: a line in the log and a count; and, unless somebody is told of it, the end of the process.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use super::flush_logs;

/// The exit code of a process that has ended because of a fault of its own.
pub const PANIC_EXIT_CODE: i32 = 70;
/// The log may be what panicked.
const PANIC_LOG_TIMEOUT: Duration = Duration::from_secs(3);

/// From now on no panic goes unnoticed.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        if !store::panics::is_panic_contained() {
            let _ = thread::Builder::new().spawn(|| {
                thread::sleep(PANIC_LOG_TIMEOUT);
                std::process::exit(PANIC_EXIT_CODE);
            });
        }
        log_panic(panic);
        if !store::panics::is_panic_contained() {
            flush_logs();
            std::process::exit(PANIC_EXIT_CODE);
        }
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    metrics::counter!("panics_total").increment(1);
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let reason = panic.payload_as_str().unwrap_or("no message");
    let (thread, backtrace) = (thread::current(), Backtrace::capture());
    let thread = thread.name().unwrap_or_default();
    if store::panics::is_panic_contained() {
        tracing::error!(code = "LOGIC_ERROR", place, thread, %backtrace, "panicked: {reason}");
    } else {
        tracing::error!(
            code = "LOGIC_ERROR", place, thread, %backtrace,
            "panicked where nobody would notice, so the process ends: {reason}"
        );
    }
}
