//! Shutdown signals: the first SIGTERM, SIGINT or SIGHUP stops gracefully, a second SIGTERM or
//! SIGINT immediately. A closing terminal may send SIGHUP twice; under `nohup` it is ignored.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Bit of SIGHUP in the masks of `/proc/self/status`.
const HANGUP_SIGNAL_BIT: u64 = 1;

/// Returns a token that is cancelled by the first SIGTERM, SIGINT or SIGHUP. A second SIGTERM or
/// SIGINT ends the process immediately with exit code 1.
pub fn cancel_on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = receive_hangup(&mut hangup) => {
                    if token.is_cancelled() {
                        continue;
                    }
                }
            }
            if token.is_cancelled() {
                tracing::warn!("second signal: stopping now");
                crate::logs::flush_logs();
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing what is in flight");
            token.cancel();
        }
    });
    Ok(stop)
}

async fn receive_hangup(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether the process was started with SIGHUP ignored, as by `nohup`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & HANGUP_SIGNAL_BIT != 0)
}
