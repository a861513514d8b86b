//! Commands `clients …`: new tokens, and a check of the file of `--clients`.

use std::path::PathBuf;

use access::{AccessPolicy, Client, NewToken, parse_clients, read_clients_file};
use chrono::SecondsFormat;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::definition::{all_examples, first_example};
use super::output::OutputArgs;
use super::{CommandFailure, missing_subcommand, output};

const NEW_TOKEN_EXAMPLES: &str = "order_service clients new-token robot-graph";
const CHECK_EXAMPLES: &str = "order_service clients check clients.yaml";

/// Commands `clients …`.
#[derive(Debug, Subcommand)]
pub(super) enum ClientsCommand {
    NewToken(NewTokenArgs),
    Check(CheckClientsArgs),
}

/// Arguments of `clients new-token`.
#[derive(Debug, Args)]
#[command(
    about = "Prints a new token once, and what the clients file has of it",
    after_help = first_example(NEW_TOKEN_EXAMPLES),
    after_long_help = all_examples(NEW_TOKEN_EXAMPLES)
)]
#[group(skip)]
pub(super) struct NewTokenArgs {
    #[arg(value_name = "NAME", help = "The client that gets the token")]
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `clients check`.
#[derive(Debug, Args)]
#[command(
    about = "Checks a clients file and lists its clients",
    after_help = first_example(CHECK_EXAMPLES),
    after_long_help = all_examples(CHECK_EXAMPLES)
)]
#[group(skip)]
pub(super) struct CheckClientsArgs {
    #[arg(value_name = "FILE", help = "The clients file")]
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run_clients_command(command: Option<ClientsCommand>) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("clients"))? {
        ClientsCommand::NewToken(args) => print_new_token(&args),
        ClientsCommand::Check(args) => check_clients(&args),
    }
}

fn print_new_token(args: &NewTokenArgs) -> Result<(), CommandFailure> {
    let NewToken { token, hash } = NewToken::generate();
    let (name, hash) = (&args.name, hash.to_hex());
    // The parser of the file decides which names are allowed.
    let probe = format!(
        "clients: [{{name: {}, scopes: [admin], tokens: [{{sha256: \"{hash}\"}}]}}]",
        Value::from(name.as_str())
    );
    parse_clients(&probe).map_err(|error| {
        CommandFailure::Usage(format!("clients new-token: NAME: {}", error.reason))
    })?;
    if args.output.is_json() {
        output::print_json(json!({"name": name, "token": token, "sha256": hash}));
    } else {
        output::print_line(&token);
        output::print_remark(format!(
            "the token of {name} is shown this once; in the clients file, below its `tokens:`, goes"
        ));
        output::print_line(format!("- {{sha256: \"{hash}\"}}"));
    }
    Ok(())
}

fn check_clients(args: &CheckClientsArgs) -> Result<(), CommandFailure> {
    let policy = read_clients_file(&args.file).and_then(|text| parse_clients(&text));
    let policy = policy
        .map_err(|error| CommandFailure::Failed(format!("{}: {error}", args.file.display())))?;
    if args.output.is_json() {
        output::print_json(clients_json(&policy));
        return Ok(());
    }
    for client in policy.clients() {
        output::print_line(format!(
            "{}  {}  {}",
            client.name,
            describe_credentials(client),
            client.scopes.names().join(", ")
        ));
    }
    Ok(())
}

fn describe_credentials(client: &Client) -> String {
    let counted = [
        (client.tokens.len(), "token"),
        (client.subjects.len(), "subject"),
        (client.certificates.len(), "certificate"),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    });
    counted.collect::<Vec<_>>().join(", ")
}

fn clients_json(policy: &AccessPolicy) -> Value {
    let clients = policy.clients().iter().map(|client| {
        let tokens: Vec<Value> = client
            .tokens
            .iter()
            .map(|(hash, expires)| {
                let expires = expires.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
                json!({"sha256": hash.to_hex(), "expires": expires})
            })
            .collect();
        json!({
            "name": client.name,
            "scopes": client.scopes.names(),
            "tokens": tokens,
            "subjects": client.subjects,
            "certificates": client.certificates,
        })
    });
    json!({"clients": clients.collect::<Vec<_>>()})
}
