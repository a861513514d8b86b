//! `testproxy`: runs the templates that are posted to it and answers with the export.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use serving::listen::check_exposure;
use settings::Resolved;

use super::{Failure, ended};
use crate::serve::testproxy::{Proxy, Transcript, serve};
use crate::settings::Settings;

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let settings = Settings::new(resolved)?;
    check_exposure(&settings.listen, settings.allow_unauthenticated)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let text = args.get_one::<String>("timeout").map(String::as_str).unwrap_or("5m");
    let timeout = humantime::parse_duration(text)
        .map_err(|error| Failure::Usage(format!("--timeout: `{text}`: {error} (such as 90s, 5m)")))?;
    let file = |name: &str| args.get_one::<String>(name).map(PathBuf::from);
    let transcript = match (file("record"), file("replay")) {
        (Some(file), _) => Transcript::Record(file),
        (_, Some(file)) => {
            let shown = file.display().to_string();
            let read = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"));
            let entries = read.and_then(|text| {
                configurator::transcript::read(&text).map_err(|error| format!("{shown}: {error}"))
            });
            Transcript::Replay(entries.map_err(|reason| Failure::Failed(format!("--replay {reason}")))?)
        }
        (None, None) => Transcript::None,
    };
    let filter: String = resolved.required("log-filter")?;
    serving::logs::start(&filter).map_err(|reason| resolved.invalid("log-filter", reason))?;
    resolved.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop =
        serving::shutdown::on_signal().map_err(|error| Failure::Failed(format!("signals: {error}")))?;
    let port = args.get_one::<u16>("port").copied().unwrap_or_default();
    let proxy = Proxy { port, timeout: timeout.max(Duration::from_millis(1)), transcript };
    ended(serve(settings, proxy, stop).await)
}
