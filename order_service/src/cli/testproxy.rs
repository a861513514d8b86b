//! `testproxy`: runs posted templates and answers with their export.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serving::listen::check_exposure;
use settings::ResolvedSettings;

use super::definition::{QUEUE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::{CommandFailure, log_serve_failure};
use order_service::serve::testproxy::{TestProxyOptions, TranscriptMode, run_test_proxy};
use order_service::settings::ServiceSettings;

const EXAMPLES: &str = "order_service testproxy --port 8099\n         \
                        CONFIGSHOP_TEST_PROXY_URL=http://localhost:8099 pytest";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Runs templates posted to it, and answers with the export",
    args = setting_args(&QUEUE_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct TestproxyArgs {
    #[arg(long, value_name = "PORT", help = "Where it listens")]
    port: u16,
    #[arg(long, value_name = "TIME", default_value = "5m", help = "How long a run may take")]
    timeout: String,
    #[arg(
        long,
        value_name = "FILE",
        help = "Adds every message and its answer to this file, one JSON object a line"
    )]
    record: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "record",
        help = "Answers from a recorded file in the place of all integrations"
    )]
    replay: Option<String>,
}

pub(super) async fn run_testproxy_command(
    args: &TestproxyArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = ServiceSettings::new(resolved)?;
    check_exposure(&settings.listen, settings.access.exposure_permits())
        .map_err(|error| CommandFailure::Usage(error.to_string()))?;
    let text = args.timeout.as_str();
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
    let timeout = timeout.max(Duration::from_millis(1));
    let proxy = TestProxyOptions { port: args.port, timeout, transcript };
    log_serve_failure(Box::pin(run_test_proxy(settings, proxy, stop)).await)
}

fn parse_transcript_mode(args: &TestproxyArgs) -> Result<TranscriptMode, CommandFailure> {
    if let Some(file) = &args.record {
        return Ok(TranscriptMode::Record(PathBuf::from(file)));
    }
    let Some(file) = &args.replay else { return Ok(TranscriptMode::None) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| CommandFailure::Failed(format!("--replay {file}: {error}")))?;
    let entries = configurator::transcript::parse_transcript(&text)
        .map_err(|error| CommandFailure::Failed(format!("--replay {file}: {error}")))?;
    Ok(TranscriptMode::Replay(entries))
}
