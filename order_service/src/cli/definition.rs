//! Definition of all commands, for clap.

mod configurator;
mod events;
mod export;
mod ledger;
mod reconcile;

use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};

use crate::orders::db::OrderState;
use crate::settings::PROGRAM_SETTINGS;

/// Settings in the help of `serve`; the others are for special cases.
const SERVE_SETTING_NAMES: [&str; 9] = [
    "app-port",
    "http-port",
    "listen",
    "data-manager-address",
    "database-url",
    "data-dir",
    "bundle",
    "roles",
    "config",
];
/// Settings in the help of commands that call the gRPC port.
const GRPC_CLIENT_SETTING_NAMES: [&str; 2] = ["app-port", "config"];
/// Settings in the help of commands that call the HTTP port.
const HTTP_CLIENT_SETTING_NAMES: [&str; 2] = ["http-port", "config"];
/// Settings in the help of commands that read the control database.
const DATABASE_SETTING_NAMES: [&str; 3] = ["database-url", "data-dir", "config"];
/// Settings in the help of commands that also read the ledger's shards.
const LEDGER_DATABASE_SETTING_NAMES: [&str; 4] = ["database-url", "data-dir", "shards", "config"];

/// Maximum columns of help texts.
pub(super) const MAX_HELP_WIDTH: usize = 100;

/// Keeps the help within a screen of 24 lines.
const HELP_TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n\n{subcommands}{after-help}";

/// Builds the whole command line.
pub fn build_command() -> Command {
    let commands = Command::new("order_service")
        .about("Takes orders over gRPC and carries each through the pipeline")
        .after_help(
            "Example: order_service -data_manager_address localhost:8086 -app_port 8085\n\
             Settings: order_service serve --help, order_service help settings",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .help_template(HELP_TEMPLATE)
        .max_term_width(MAX_HELP_WIDTH)
        .subcommand(
            command_with_example(
                "serve",
                "Serves (what happens without a command, too)",
                "order_service serve --app-port 8085",
            )
            .args(setting_args(&SERVE_SETTING_NAMES)),
        )
        .subcommand(process_command())
        .subcommand(orders_command())
        .subcommand(
            command_with_example(
                "migrate",
                "Brings the database to this version",
                "order_service migrate --database-url postgres://…",
            )
            .args(setting_args(&LEDGER_DATABASE_SETTING_NAMES))
            .arg(switch_arg("dry-run", "Only list what would be done"))
            .arg(output_arg()),
        )
        .subcommand(ledger::ledger_command())
        .subcommand(ledger::shard_of_command())
        .subcommand(export::export_command())
        .subcommand(configurator::configurator_command())
        .subcommand(configurator::queues_command())
        .subcommand(configurator::integration_command())
        .subcommand(configurator::testproxy_command())
        .subcommand(bundle_command())
        .subcommand(reconcile::reconcile_command())
        .subcommand(events::action_configs_command())
        .subcommand(
            command_with_example(
                "status",
                "Processes, queues, shards and errors at a glance",
                "order_service status",
            )
            .args(setting_args(&LEDGER_DATABASE_SETTING_NAMES))
            .arg(output_arg()),
        )
        .subcommand(
            Command::new("config")
                .about("Looks at the settings")
                .arg_required_else_help(true)
                .subcommand(
                    command_with_example(
                        "print",
                        "The effective settings and where each came from",
                        "order_service config print",
                    )
                    .args(setting_args(&["config"]))
                    .arg(output_arg()),
                ),
        )
        .subcommand(
            Command::new("settings")
                .about("Lists all settings, with environment variables and defaults")
                .override_help(settings::render_settings_page(
                    &PROGRAM_SETTINGS,
                    terminal::terminal_width(MAX_HELP_WIDTH).min(MAX_HELP_WIDTH),
                )),
        );
    settings::add_setting_args(commands, &PROGRAM_SETTINGS, &[])
}

fn process_command() -> Command {
    let example = "order_service process --order 17:4 --order -3:9\n         order_service process --file orders.csv --output json";
    command_with_example("process", "Sends orders to a running service and shows the results", example)
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
                .help("Orders from a file, or - for standard input: CSV (ORDER,PRODUCT; RFC 4180) or JSON objects, one a line"),
        )
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("TIME")
                .default_value("30s")
                .help("How long each request may take, and how long to try again while the service has no room; 1000 orders go in one, 16 requests at a time"),
        )
        .args(setting_args(&GRPC_CLIENT_SETTING_NAMES))
        .arg(server_arg())
        .arg(output_arg())
}

fn orders_command() -> Command {
    Command::new("orders")
        .about("Looks at orders and re-drives them")
        .arg_required_else_help(true)
        .subcommand(
            command_with_example("get", "Shows one order", "order_service orders get 17")
                .args(setting_args(&GRPC_CLIENT_SETTING_NAMES))
                .arg(order_id_arg().required(true))
                .arg(server_arg())
                .arg(output_arg()),
        )
        .subcommand(orders_list_command())
        .subcommand(orders_retry_command())
        .subcommand(
            command_with_example(
                "reconcile",
                "Compares orders with their postings, after a database was put back to an older copy (reads the databases)",
                "order_service orders reconcile --apply",
            )
            .arg(switch_arg("apply", "Put right what differs; without this it is only shown"))
            .arg(output_arg()),
        )
        .subcommand(
            command_with_example(
                "callbacks",
                "Callbacks of the last day for orders that nobody knows (reads the database)",
                "order_service orders callbacks --orphans",
            )
            .args(setting_args(&DATABASE_SETTING_NAMES))
            .arg(switch_arg("orphans", "Show callbacks without an order").required(true))
            .arg(output_arg()),
        )
}

fn order_id_arg() -> Arg {
    Arg::new("id").value_name("ID").allow_negative_numbers(true).value_parser(value_parser!(i32))
}

fn order_state_arg() -> Arg {
    let states: Vec<&str> = OrderState::ALL.iter().map(|state| state.name()).collect();
    Arg::new("state").long("state").value_name("STATE").value_parser(states)
}

fn orders_list_command() -> Command {
    command_with_example(
        "list",
        "Lists orders by id, a page at a time",
        "order_service orders list --state order_failed",
    )
    .args(setting_args(&GRPC_CLIENT_SETTING_NAMES))
    .arg(order_state_arg().help("Only orders in this state"))
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
    .arg(server_arg())
    .arg(output_arg())
}

fn orders_retry_command() -> Command {
    command_with_example(
        "retry",
        "Revives failed orders and tries waiting ones now",
        "order_service orders retry 17 18\n         order_service orders retry --state order_failed",
    )
    .args(setting_args(&GRPC_CLIENT_SETTING_NAMES))
    .arg(order_id_arg().action(ArgAction::Append).num_args(1..))
    .arg(order_state_arg().help("All orders in this state; asks back with their number"))
    .arg(
        Arg::new("file")
            .long("file")
            .value_name("FILE")
            .allow_hyphen_values(true)
            .help("The orders of a file, or - for standard input; asks back with their number"),
    )
    .arg(switch_arg("yes", "Does not ask back"))
    .group(ArgGroup::new("which").args(["id", "state", "file"]).required(true))
    .arg(server_arg())
    .arg(output_arg())
}

fn bundle_command() -> Command {
    Command::new("bundle").about("Looks at the configuration bundle").arg_required_else_help(true).subcommand(
        command_with_example(
            "validate",
            "Checks every file of a bundle (--bundle DIR, or the built-in one) against its schema, and that they fit",
            "order_service bundle validate --bundle configs",
        )
        .args(setting_args(&["bundle", "config"]))
        .arg(output_arg()),
    )
}

/// A command whose `-h` shows its first example, and whose `--help` shows all, one a line.
fn command_with_example(
    name: &'static str,
    about: &'static str,
    examples: &'static str,
) -> Command {
    const SETTINGS: &str = "All settings: order_service help settings";
    let first = examples.lines().next().unwrap_or_default();
    Command::new(name)
        .about(about)
        .after_help(format!("Example: {first}\n{SETTINGS}"))
        .after_long_help(format!("Example: {examples}\n\n{SETTINGS}"))
}

/// Flags of the settings listed in a command's help.
fn setting_args(names: &[&str]) -> Vec<Arg> {
    settings::visible_setting_args(&PROGRAM_SETTINGS, names)
}

fn switch_arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn output_arg() -> Arg {
    Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(["text", "json"])
        .hide_possible_values(true)
        .help("How the result is printed: text or json")
}

fn server_arg() -> Arg {
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
        build_command().debug_assert();
    }

    /// Help of a command on 80 columns.
    fn render_help(command: &mut Command) -> String {
        let mut command = command.clone().term_width(80);
        command.render_help().to_string()
    }

    /// Calls `look` for every command, with its inherited arguments.
    fn for_each_command(
        command: &mut Command,
        words: &str,
        look: &mut impl FnMut(&str, &mut Command),
    ) {
        look(words, command);
        let names: Vec<String> =
            command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            for_each_command(
                command.find_subcommand_mut(name).unwrap(),
                &format!("{words} {name}"),
                look,
            );
        }
    }

    #[test]
    fn the_help_of_a_command_fits_on_a_screen() {
        let mut command = build_command();
        command.build();
        let mut too_long = Vec::new();
        for_each_command(&mut command, "", &mut |words, command| {
            let help = render_help(command);
            let (lines, most) = (help.lines().count(), if words == " reconcile" { 50 } else { 24 });
            if words != " settings" && lines > most {
                too_long.push(format!("{words}: {lines} lines\n{help}"));
            }
        });
        assert!(too_long.is_empty(), "{}", too_long.join("\n"));
    }

    #[test]
    fn every_command_with_a_task_of_its_own_has_an_example() {
        let mut command = build_command();
        command.build();
        for_each_command(&mut command, "", &mut |words, command| {
            let leads_on = command.has_subcommands() || words == " settings";
            assert!(leads_on || render_help(command).contains("Example: order_service"), "{words}");
        });
    }

    #[test]
    fn the_settings_shown_are_settings() {
        for names in [
            &SERVE_SETTING_NAMES[..],
            &GRPC_CLIENT_SETTING_NAMES,
            &HTTP_CLIENT_SETTING_NAMES,
            &DATABASE_SETTING_NAMES,
            &LEDGER_DATABASE_SETTING_NAMES,
        ] {
            assert_eq!(setting_args(names).len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn negative_ids_are_ids() {
        let matches = build_command()
            .try_get_matches_from(["order_service", "orders", "retry", "-2147483648", "3"])
            .unwrap();
        let retry =
            matches.subcommand_matches("orders").unwrap().subcommand_matches("retry").unwrap();
        let ids: Vec<i32> = retry.get_many("id").unwrap().copied().collect();
        assert_eq!(ids, [i32::MIN, 3]);
    }
}
