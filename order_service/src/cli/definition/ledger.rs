//! Commands `ledger …` and `shard-of`.

use clap::{Arg, ArgAction, Command, value_parser};

use super::{
    HTTP_CLIENT_SETTING_NAMES, LEDGER_DATABASE_SETTING_NAMES, command_with_example, output_arg,
    setting_args,
};

pub(super) fn ledger_command() -> Command {
    Command::new("ledger")
        .about("Reads the ledger of a running service, or checks its databases")
        .arg_required_else_help(true)
        .subcommand(
            account_command(
                "balance",
                "The balance of an account, in all and by groups",
                "order_service ledger balance storage_outflow storage_id=7\n         \
                 order_service ledger balance storage_outflow storage_id=7 product_id=4 --at 2024-03-01T00:00:00Z\n         \
                 order_service ledger balance storage_outflow storage_id=7 --group-by product_id,pickup_point_id",
                "Its key attributes, and auxiliary ones to filter by",
            )
            .arg(time_arg("at", "Only events before this time [default: now]"))
            .arg(group_by_arg()),
        )
        .subcommand(
            account_command(
                "turnovers",
                "The turnovers of an account in a period, in all and by groups",
                "order_service ledger turnovers storage_outflow storage_id=7 --from 2024-02-01T00:00:00Z --to 2024-03-01T00:00:00Z",
                "Its key attributes, and auxiliary ones to filter by",
            )
            .arg(from_arg())
            .arg(to_arg())
            .arg(group_by_arg()),
        )
        .subcommand(
            account_command(
                "events",
                "The events of an account, in the order of their time",
                "order_service ledger events storage_outflow storage_id=7 --limit 20\n         \
                 order_service ledger events storage_outflow storage_id=7 --output json > events.ndjson",
                "Its key attributes",
            )
            .arg(from_arg())
            .arg(to_arg())
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("COUNT")
                    .value_parser(value_parser!(u64).range(1..))
                    .help("At most so many [default: all of them]"),
            ),
        )
        .subcommand(
            command_with_example("types", "The types of accounts, locks and states", "order_service ledger types")
                .args(setting_args(&HTTP_CLIENT_SETTING_NAMES))
                .arg(url_arg())
                .arg(output_arg()),
        )
        .subcommand(
            command_with_example("shards", "The shards, what they own and what they hold", "order_service ledger shards")
                .args(setting_args(&HTTP_CLIENT_SETTING_NAMES))
                .arg(url_arg())
                .arg(output_arg()),
        )
        .subcommand(
            command_with_example(
                "check",
                "Recomputes everything from the raw events and names every difference; exit code 1 if there is one \
                 (reads the databases directly, changes nothing)",
                "order_service ledger check\n         order_service ledger check --output json",
            )
            .args(setting_args(&LEDGER_DATABASE_SETTING_NAMES))
            .arg(output_arg()),
        )
}

pub(super) fn shard_of_command() -> Command {
    let example = "order_service shard-of --type storage_outflow storage_id=7";
    let about = "Shows on which shard an account, a lock or a state lies";
    command_with_example("shard-of", about, example)
        .args(setting_args(&LEDGER_DATABASE_SETTING_NAMES))
        .arg(
            Arg::new("type")
                .long("type")
                .value_name("TYPE")
                .required(true)
                .help("The type of account, lock or state"),
        )
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .value_parser(
                    ledger::types::LedgerTypeKind::ALL.map(ledger::types::LedgerTypeKind::name),
                )
                .help("What the type is a type of, if several kinds have one of this name"),
        )
        .arg(attributes_arg("Attributes; those of the shard key must be there"))
        .arg(output_arg())
}

fn account_command(
    name: &'static str,
    about: &'static str,
    example: &'static str,
    help: &'static str,
) -> Command {
    let kind = Arg::new("type").value_name("TYPE").required(true).help("The account's type");
    command_with_example(name, about, example)
        .args(setting_args(&HTTP_CLIENT_SETTING_NAMES))
        .arg(kind)
        .arg(attributes_arg(help))
        .arg(url_arg())
        .arg(output_arg())
}

fn attributes_arg(help: &'static str) -> Arg {
    Arg::new("attribute").value_name("KEY=VALUE").action(ArgAction::Append).help(help)
}

fn time_arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TIME").help(help)
}

fn from_arg() -> Arg {
    time_arg("from", "Only events not before this time, in RFC 3339 [default: all]")
}

fn to_arg() -> Arg {
    time_arg("to", "Only events before this time, in RFC 3339 [default: now]")
}

fn group_by_arg() -> Arg {
    Arg::new("group-by")
        .long("group-by")
        .value_name("ATTRIBUTE,…")
        .help("One line for each combination of these auxiliary attributes")
}

fn url_arg() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .help("The running service [default: http://localhost and --http-port]")
}
