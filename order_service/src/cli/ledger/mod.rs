//! `ledger …`: reads the ledger of a running service over its REST API; `check` reads its databases.

mod about;
mod check;
mod events;
mod totals;

use clap::ArgMatches;
use serde::de::DeserializeOwned;
use settings::Resolved;

use super::service::Service;
use super::{Failure, output, words};

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    match args.subcommand() {
        Some(("balance", args)) => totals::balance(args, resolved).await,
        Some(("turnovers", args)) => totals::turnovers(args, resolved).await,
        Some(("events", args)) => events::list(args, resolved).await,
        Some(("types", args)) => about::types(args, resolved).await,
        Some(("check", args)) => check::check(args, resolved).await,
        Some(("shards", args)) => about::shards(args, resolved).await,
        _ => Err(Failure::Usage("ledger: which command? (see ledger --help)".to_owned())),
    }
}

/// The account type that the command names.
fn type_name(args: &ArgMatches) -> &str {
    args.get_one::<String>("type").map(String::as_str).unwrap_or_default()
}

/// The parameters of a query: attributes, and those options that were given.
fn query<'a>(
    args: &'a ArgMatches,
    attributes: &'a [(String, String)],
    options: &[(&'a str, &str)],
) -> Vec<(&'a str, &'a str)> {
    let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let given =
        options.iter().filter_map(|(name, option)| Some((*name, args.get_one::<String>(option)?.as_str())));
    attributes.chain(given).collect()
}

fn parse<T: DeserializeOwned>(service: &Service, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| service.failed(format!("the answer is not understood: {error}")))
}
