//! `ledger …` and `shard-of`.

use clap::{Arg, ArgAction, Command, value_parser};

use super::{DATABASES, HTTP_CLIENT, output, shown, with_example};

pub(super) fn command() -> Command {
    Command::new("ledger")
        .about("Reads the ledger of a running service, or checks its databases")
        .arg_required_else_help(true)
        .subcommand(
            account(
                "balance",
                "The balance of an account, in all and by groups",
                "order_service ledger balance storage_outflow storage_id=7\n         \
                 order_service ledger balance storage_outflow storage_id=7 product_id=4 --at 2024-03-01T00:00:00Z\n         \
                 order_service ledger balance storage_outflow storage_id=7 --group-by product_id,pickup_point_id",
                "Its key attributes, and auxiliary ones to filter by",
            )
            .arg(time("at", "Only events before this time [default: now]"))
            .arg(group_by()),
        )
        .subcommand(
            account(
                "turnovers",
                "The turnovers of an account in a period, in all and by groups",
                "order_service ledger turnovers storage_outflow storage_id=7 --from 2024-02-01T00:00:00Z --to 2024-03-01T00:00:00Z",
                "Its key attributes, and auxiliary ones to filter by",
            )
            .arg(from())
            .arg(to())
            .arg(group_by()),
        )
        .subcommand(
            account(
                "events",
                "The events of an account, in the order of their time",
                "order_service ledger events storage_outflow storage_id=7 --limit 20\n         \
                 order_service ledger events storage_outflow storage_id=7 --output json > events.ndjson",
                "Its key attributes",
            )
            .arg(from())
            .arg(to())
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("COUNT")
                    .value_parser(value_parser!(u64).range(1..))
                    .help("At most so many [default: all of them]"),
            ),
        )
        .subcommand(
            with_example("types", "The types of accounts, locks and states", "order_service ledger types")
                .args(shown(&HTTP_CLIENT))
                .arg(url())
                .arg(output()),
        )
        .subcommand(
            with_example("shards", "The shards, what they own and what they hold", "order_service ledger shards")
                .args(shown(&HTTP_CLIENT))
                .arg(url())
                .arg(output()),
        )
        .subcommand(
            with_example(
                "check",
                "Recomputes everything from the raw events and names every difference; exit code 1 if there is one \
                 (reads the databases directly, changes nothing)",
                "order_service ledger check\n         order_service ledger check --output json",
            )
            .args(shown(&DATABASES))
            .arg(output()),
        )
}

pub(super) fn shard_of() -> Command {
    let example = "order_service shard-of --type storage_outflow storage_id=7";
    let about = "Shows on which shard an account, a lock or a state lies";
    with_example("shard-of", about, example)
        .args(shown(&DATABASES))
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
                .value_parser(ledger::types::Kind::ALL.map(ledger::types::Kind::name))
                .help("What the type is a type of, if several kinds have one of this name"),
        )
        .arg(attributes("Attributes; those of the shard key must be there"))
        .arg(output())
}

fn account(name: &'static str, about: &'static str, example: &'static str, help: &'static str) -> Command {
    let kind = Arg::new("type").value_name("TYPE").required(true).help("The account's type");
    with_example(name, about, example)
        .args(shown(&HTTP_CLIENT))
        .arg(kind)
        .arg(attributes(help))
        .arg(url())
        .arg(output())
}

fn attributes(help: &'static str) -> Arg {
    Arg::new("attribute").value_name("KEY=VALUE").action(ArgAction::Append).help(help)
}

fn time(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TIME").help(help)
}

fn from() -> Arg {
    time("from", "Only events not before this time, in RFC 3339 [default: all]")
}

fn to() -> Arg {
    time("to", "Only events before this time, in RFC 3339 [default: now]")
}

fn group_by() -> Arg {
    Arg::new("group-by")
        .long("group-by")
        .value_name("ATTRIBUTE,…")
        .help("One line for each combination of these auxiliary attributes")
}

fn url() -> Arg {
    Arg::new("url")
        .long("url")
        .value_name("URL")
        .help("The running service [default: http://localhost and --http-port]")
}
