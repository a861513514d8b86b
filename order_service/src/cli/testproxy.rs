//! `testproxy`: runs posted templates and answers with their export.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use serving::listen::check_exposure;
use settings::ResolvedSettings;

use super::{CommandFailure, log_serve_failure};
use crate::serve::testproxy::{TestProxyOptions, TranscriptMode, run_test_proxy};
use crate::settings::ServiceSettings;

pub(super) async fn run_testproxy_command(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = ServiceSettings::new(resolved)?;
    check_exposure(&settings.listen, settings.allow_unauthenticated)
        .map_err(|error| CommandFailure::Usage(error.to_string()))?;
    let text = args.get_one::<String>("timeout").map(String::as_str).unwrap_or("5m");
    let timeout = humantime::parse_duration(text).map_err(|error| {
        CommandFailure::Usage(format!("--timeout: `{text}`: {error} (such as 90s, 5m)"))
    })?;
    let transcript = parse_transcript_mode(args)?;
    let filter: String = resolved.get_required("log-filter")?;
    serving::logs::start_logging(&filter)
        .map_err(|reason| resolved.invalid_setting("log-filter", reason))?;
    resolved.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop = serving::shutdown::cancel_on_signal()
        .map_err(|error| CommandFailure::Failed(format!("signals: {error}")))?;
    let port = args.get_one::<u16>("port").copied().unwrap_or_default();
    let proxy =
        TestProxyOptions { port, timeout: timeout.max(Duration::from_millis(1)), transcript };
    log_serve_failure(run_test_proxy(settings, proxy, stop).await)
}

fn parse_transcript_mode(args: &ArgMatches) -> Result<TranscriptMode, CommandFailure> {
    if let Some(file) = args.get_one::<String>("record") {
        return Ok(TranscriptMode::Record(PathBuf::from(file)));
    }
    let Some(file) = args.get_one::<String>("replay") else { return Ok(TranscriptMode::None) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| CommandFailure::Failed(format!("--replay {file}: {error}")))?;
    let entries = configurator::transcript::parse_transcript(&text)
        .map_err(|error| CommandFailure::Failed(format!("--replay {file}: {error}")))?;
    Ok(TranscriptMode::Replay(entries))
}
