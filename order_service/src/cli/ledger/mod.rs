//! Commands `ledger …`: read the ledger of a running service over REST; `ledger check` reads its
//! databases.

mod check;
mod describe;
mod events;
mod totals;

use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use settings::ResolvedSettings;

use super::http_client::{ServiceHttpClient, ServiceUrlArgs};
use super::output::OutputArgs;
use super::{CommandFailure, definition, key_values, missing_subcommand, output};
use check::LedgerCheckArgs;
use describe::{LedgerShardsArgs, LedgerTypesArgs};
use events::LedgerEventsArgs;
use totals::{BalanceArgs, TurnoversArgs};

/// Commands `ledger …`.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    Balance(BalanceArgs),
    Turnovers(TurnoversArgs),
    Events(LedgerEventsArgs),
    Types(LedgerTypesArgs),
    Shards(LedgerShardsArgs),
    Check(LedgerCheckArgs),
}

/// Period of events, shared by `turnovers` and `events`.
#[derive(Debug, Args)]
#[group(skip)]
struct PeriodArgs {
    #[arg(
        long,
        value_name = "TIME",
        help = "Only events not before this time, in RFC 3339 [default: all]"
    )]
    from: Option<String>,
    #[arg(
        long,
        value_name = "TIME",
        help = "Only events before this time, in RFC 3339 [default: now]"
    )]
    to: Option<String>,
}

pub(super) async fn run_ledger_command(
    command: Option<LedgerCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("ledger"))? {
        LedgerCommand::Balance(args) => totals::print_balance(&args, resolved).await,
        LedgerCommand::Turnovers(args) => totals::print_turnovers(&args, resolved).await,
        LedgerCommand::Events(args) => events::list_ledger_events(&args, resolved).await,
        LedgerCommand::Types(args) => describe::print_ledger_types(&args, resolved).await,
        LedgerCommand::Shards(args) => describe::print_ledger_shards(&args, resolved).await,
        LedgerCommand::Check(args) => check::run_ledger_check(&args, resolved).await,
    }
}

/// Query parameters: attributes, and the options that are set.
fn query_parameters<'a>(
    attributes: &'a [(String, String)],
    options: &[(&'a str, &'a Option<String>)],
) -> Vec<(&'a str, &'a str)> {
    let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let option_values = options.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    attributes.chain(option_values).collect()
}

fn parse_answer<T: DeserializeOwned>(
    service: &ServiceHttpClient,
    text: &str,
) -> Result<T, CommandFailure> {
    serde_json::from_str(text)
        .map_err(|error| service.answer_failure(format!("the answer is not understood: {error}")))
}
