//! Commands `ledger …`: read the ledger of a running service over REST; `ledger check` reads its
//! databases.

mod check;
mod describe;
mod events;
mod totals;

use clap::ArgMatches;
use serde::de::DeserializeOwned;
use settings::ResolvedSettings;

use super::http_client::ServiceHttpClient;
use super::{CommandFailure, key_values, output};

pub(super) async fn run_ledger_command(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match args.subcommand() {
        Some(("balance", args)) => totals::print_balance(args, resolved).await,
        Some(("turnovers", args)) => totals::print_turnovers(args, resolved).await,
        Some(("events", args)) => events::list_ledger_events(args, resolved).await,
        Some(("types", args)) => describe::print_ledger_types(args, resolved).await,
        Some(("check", args)) => check::run_ledger_check(args, resolved).await,
        Some(("shards", args)) => describe::print_ledger_shards(args, resolved).await,
        _ => Err(CommandFailure::Usage("ledger: which command? (see ledger --help)".to_owned())),
    }
}

/// The argument `type`: an account type's name.
fn account_type_arg(args: &ArgMatches) -> &str {
    args.get_one::<String>("type").map(String::as_str).unwrap_or_default()
}

/// Query parameters: attributes, and the options that are set.
fn query_parameters<'a>(
    args: &'a ArgMatches,
    attributes: &'a [(String, String)],
    options: &[(&'a str, &str)],
) -> Vec<(&'a str, &'a str)> {
    let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let option_values = options
        .iter()
        .filter_map(|(name, option)| Some((*name, args.get_one::<String>(option)?.as_str())));
    attributes.chain(option_values).collect()
}

fn parse_answer<T: DeserializeOwned>(
    service: &ServiceHttpClient,
    text: &str,
) -> Result<T, CommandFailure> {
    serde_json::from_str(text)
        .map_err(|error| service.answer_failure(format!("the answer is not understood: {error}")))
}
