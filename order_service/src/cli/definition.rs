//! What commands there are.

mod configurator;
mod events;
mod export;
mod ledger;
mod reconcile;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::orders::State;
use crate::settings::PROGRAM;

/// The whole command line.
pub fn command() -> Command {
    Command::new("order_service")
        .about("Takes orders over gRPC and carries each through the pipeline; without a command, serves")
        .after_help("Example: order_service -data_manager_address localhost:8086 -app_port 8085")
        .version(env!("CARGO_PKG_VERSION"))
        .args(settings::args(&PROGRAM))
        .subcommand(with_example(
            "serve",
            "Serves (what happens without a command, too)",
            "order_service serve --app-port 8085",
        ))
        .subcommand(process())
        .subcommand(orders())
        .subcommand(
            with_example(
                "migrate",
                "Brings the database to this version",
                "order_service migrate --database-url postgres://…",
            )
            .arg(switch("dry-run", "Only list what would be done"))
            .arg(output()),
        )
        .subcommand(ledger::command())
        .subcommand(ledger::shard_of())
        .subcommand(export::command())
        .subcommand(configurator::command())
        .subcommand(configurator::queues())
        .subcommand(configurator::integration())
        .subcommand(configurator::testproxy())
        .subcommand(bundle())
        .subcommand(reconcile::command())
        .subcommand(events::action_configs())
        .subcommand(
            with_example("status", "Processes, queues and errors at a glance", "order_service status")
                .arg(output()),
        )
        .subcommand(
            Command::new("config").about("Looks at the settings").arg_required_else_help(true).subcommand(
                with_example(
                    "print",
                    "The effective settings and where each came from",
                    "order_service config print",
                )
                .arg(output()),
            ),
        )
}

fn process() -> Command {
    let example = "order_service process --order 17:4 --order -3:9\n         order_service process --file orders.csv --output json";
    with_example("process", "Sends orders to a running service and shows what became of them", example)
        .arg(
            Arg::new("order")
                .long("order")
                .value_name("ORDER:PRODUCT")
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .help("An order and its product; may be repeated"),
        )
        .arg(
            Arg::new("file")
                .long("file")
                .value_name("FILE")
                .allow_hyphen_values(true)
                .help("Orders from a file, or - for standard input: CSV lines ORDER,PRODUCT or JSON objects, one a line"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("TIME")
                .default_value("30s")
                .help("How long each request of at most 1000 orders may take"),
        )
        .arg(server())
        .arg(output())
}

fn orders() -> Command {
    let id = || {
        Arg::new("id")
            .value_name("ID")
            .required(true)
            .allow_negative_numbers(true)
            .value_parser(value_parser!(i32))
    };
    let states: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
    Command::new("orders")
        .about("Looks at orders and re-drives them")
        .arg_required_else_help(true)
        .subcommand(
            with_example("get", "Shows one order", "order_service orders get 17")
                .arg(id())
                .arg(server())
                .arg(output()),
        )
        .subcommand(
            with_example(
                "list",
                "Lists orders by id, a page at a time",
                "order_service orders list --state order_failed",
            )
            .arg(
                Arg::new("state")
                    .long("state")
                    .value_name("STATE")
                    .value_parser(states)
                    .help("Only orders in this state"),
            )
            .arg(
                Arg::new("page-size")
                    .long("page-size")
                    .value_name("COUNT")
                    .default_value("100")
                    .value_parser(value_parser!(i32).range(1..=1000))
                    .help("Orders on a page"),
            )
            .arg(
                Arg::new("page-token")
                    .long("page-token")
                    .value_name("TOKEN")
                    .default_value("")
                    .help("The page to show, as the page before named it"),
            )
            .arg(server())
            .arg(output()),
        )
        .subcommand(
            with_example(
                "retry",
                "Revives failed orders and tries waiting ones now",
                "order_service orders retry 17 18",
            )
            .arg(id().action(ArgAction::Append).num_args(1..))
            .arg(server())
            .arg(output()),
        )
        .subcommand(
            with_example(
                "reconcile",
                "Compares orders with their postings, after a database was put back to an older copy (reads the databases)",
                "order_service orders reconcile --apply",
            )
            .arg(switch("apply", "Put right what differs; without this it is only shown"))
            .arg(output()),
        )
        .subcommand(
            with_example(
                "callbacks",
                "Callbacks of the last day for orders that nobody knows (reads the database)",
                "order_service orders callbacks --orphans",
            )
            .arg(switch("orphans", "Show callbacks without an order").required(true))
            .arg(output()),
        )
}

fn bundle() -> Command {
    Command::new("bundle").about("Looks at the configuration bundle").arg_required_else_help(true).subcommand(
        with_example(
            "validate",
            "Checks every file of a bundle (--bundle DIR, or the built-in one) against its schema, and that they fit",
            "order_service bundle validate --bundle configs",
        )
        .arg(output()),
    )
}

fn with_example(name: &'static str, about: &'static str, example: &'static str) -> Command {
    Command::new(name).about(about).after_help(format!("Example: {example}"))
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn output() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(["text", "json"])
        .help("How the result is printed")
}

fn server() -> Arg {
    Arg::new("server")
        .long("server")
        .value_name("HOST:PORT")
        .help("The running service [default: localhost and --app-port]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn negative_ids_are_ids() {
        let matches =
            command().try_get_matches_from(["order_service", "orders", "retry", "-2147483648", "3"]).unwrap();
        let retry = matches.subcommand_matches("orders").unwrap().subcommand_matches("retry").unwrap();
        let ids: Vec<i32> = retry.get_many("id").unwrap().copied().collect();
        assert_eq!(ids, [i32::MIN, 3]);
    }
}
