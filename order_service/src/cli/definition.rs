//! Root of the command line for clap's derive: all commands, and the settings in their help. The
//! arguments of a command are a struct beside its code; texts of the help are `help` and `about`
//! attributes, never doc comments.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command, CommandFactory as _, Parser, Subcommand};

use super::action_configs::ActionConfigsArgs;
use super::admin::{ConfigCommand, MigrateArgs};
use super::audit::AuditArgs;
use super::bundle::BundleCommand;
use super::clients::ClientsCommand;
use super::configurator::ConfiguratorCommand;
use super::export::ExportCommand;
use super::integration::IntegrationCommand;
use super::ledger::LedgerCommand;
use super::orders::OrdersCommand;
use super::process::ProcessArgs;
use super::queues::QueuesCommand;
use super::reconcile::ReconcileArgs;
use super::shard_of::ShardOfArgs;
use super::status::StatusArgs;
use super::testproxy::TestproxyArgs;
use order_service::settings::PROGRAM_SETTINGS;

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
pub(super) const GRPC_CLIENT_SETTING_NAMES: [&str; 4] =
    ["app-port", "token-file", "tls-ca", "config"];
/// Settings in the help of commands that call the HTTP port.
pub(super) const HTTP_CLIENT_SETTING_NAMES: [&str; 4] =
    ["http-port", "token-file", "tls-ca", "config"];
/// Settings in the help of commands that read the control database.
pub(super) const DATABASE_SETTING_NAMES: [&str; 3] = ["database-url", "data-dir", "config"];
/// Settings in the help of commands that also read the ledger's shards.
pub(super) const LEDGER_DATABASE_SETTING_NAMES: [&str; 4] =
    ["database-url", "data-dir", "shards", "config"];

/// Settings in the help of commands that use the FIFO queues.
pub(super) const QUEUE_SETTING_NAMES: [&str; 7] = [
    "database-url",
    "data-dir",
    "queue-engine",
    "sqs-endpoint-url",
    "queues",
    "answer-queue",
    "config",
];

/// Maximum columns of help texts.
pub(super) const MAX_HELP_WIDTH: usize = 100;

/// Keeps the help within a screen of 24 lines.
const HELP_TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n{subcommands}{after-help}";

const SERVE_EXAMPLE: &str = "order_service serve --app-port 8085";

/// Whole command line, except the flags of the settings.
#[derive(Parser)]
#[command(
    name = "order_service",
    version,
    about = "Takes orders over gRPC and carries each through the pipeline",
    after_help = "Example: order_service -data_manager_address localhost:8086 -app_port 8085\n\
                  Settings: order_service serve --help, order_service help settings",
    help_template = HELP_TEMPLATE,
    max_term_width = MAX_HELP_WIDTH
)]
#[group(skip)]
pub(super) struct ServiceCli {
    /// `None` serves.
    #[command(subcommand)]
    pub(super) command: Option<ServiceCommand>,
}

/// All commands. `Option`: the dispatch reports a missing subcommand, clap has another text for it.
#[derive(Subcommand)]
pub(super) enum ServiceCommand {
    #[command(
        about = "Serves (what happens without a command, too)",
        args = setting_args(&SERVE_SETTING_NAMES),
        after_help = first_example(SERVE_EXAMPLE),
        after_long_help = all_examples(SERVE_EXAMPLE)
    )]
    Serve,
    Process(ProcessArgs),
    #[command(about = "Looks at orders and re-drives them", arg_required_else_help = true)]
    Orders {
        #[command(subcommand)]
        command: Option<OrdersCommand>,
    },
    Migrate(MigrateArgs),
    #[command(
        about = "Reads the ledger of a running service, or checks its databases",
        arg_required_else_help = true
    )]
    Ledger {
        #[command(subcommand)]
        command: Option<LedgerCommand>,
    },
    ShardOf(ShardOfArgs),
    #[command(
        about = "Proves what was exported, and decides after an alarm",
        arg_required_else_help = true
    )]
    Export {
        #[command(subcommand)]
        command: Option<ExportCommand>,
    },
    #[command(about = "Looks ahead at configurator runs", arg_required_else_help = true)]
    Configurator {
        #[command(subcommand)]
        command: Option<ConfiguratorCommand>,
    },
    #[command(
        about = "Makes FIFO queues, and takes messages out of the way",
        arg_required_else_help = true
    )]
    Queues {
        #[command(subcommand)]
        command: Option<QueuesCommand>,
    },
    #[command(about = "Checks integrations", arg_required_else_help = true)]
    Integration {
        #[command(subcommand)]
        command: Option<IntegrationCommand>,
    },
    Testproxy(TestproxyArgs),
    #[command(
        about = "Makes tokens, and checks the file of --clients",
        arg_required_else_help = true
    )]
    Clients {
        #[command(subcommand)]
        command: Option<ClientsCommand>,
    },
    #[command(about = "Looks at the configuration bundle", arg_required_else_help = true)]
    Bundle {
        #[command(subcommand)]
        command: Option<BundleCommand>,
    },
    Reconcile(ReconcileArgs),
    ActionConfigs(ActionConfigsArgs),
    Status(StatusArgs),
    Audit(AuditArgs),
    #[command(about = "Looks at the settings", arg_required_else_help = true)]
    Config {
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    // Named in the last line of the help, which is to fit on a screen of 24 lines.
    #[command(
        about = "Lists all settings, with environment variables and defaults",
        hide = true,
        override_help = render_settings_help()
    )]
    Settings,
}

/// Builds the whole command line, with the flags of all settings.
pub(super) fn build_command() -> Command {
    settings::add_setting_args(ServiceCli::command(), &PROGRAM_SETTINGS, &[])
}

fn render_settings_help() -> String {
    let width = terminal::terminal_width(MAX_HELP_WIDTH).min(MAX_HELP_WIDTH);
    settings::render_settings_page(&PROGRAM_SETTINGS, width)
}

const ALL_SETTINGS_HINT: &str = "All settings: order_service help settings";

/// End of a command's `-h`: the first of its examples, which are one a line.
pub(super) fn first_example(examples: &str) -> String {
    let first = examples.lines().next().unwrap_or_default();
    format!("Example: {first}\n{ALL_SETTINGS_HINT}")
}

/// End of a command's `--help`: all examples.
pub(super) fn all_examples(examples: &str) -> String {
    format!("Example: {examples}\n\n{ALL_SETTINGS_HINT}")
}

/// Flags of the settings listed in a command's help.
pub(super) fn setting_args(names: &[&str]) -> Vec<Arg> {
    settings::visible_setting_args(&PROGRAM_SETTINGS, names)
}

/// Parser of an argument that is the name of one of `values`.
pub(super) fn named_value_parser<T: Copy + Send + Sync + 'static, const N: usize>(
    values: [T; N],
    value_name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(values.map(value_name)).try_map(move |text| {
        values.into_iter().find(|value| value_name(*value) == text).ok_or("unknown name")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // clap checks it in debug builds only: `make unit-long`.
    #[cfg(debug_assertions)]
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
            &QUEUE_SETTING_NAMES,
        ] {
            assert_eq!(setting_args(names).len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn negative_ids_are_ids() {
        let line = ["order_service", "orders", "retry", "-2147483648", "3"];
        let Some(ServiceCommand::Orders { command: Some(OrdersCommand::Retry(retry)) }) =
            ServiceCli::try_parse_from(line).unwrap().command
        else {
            panic!("another command")
        };
        assert_eq!(retry.target.ids, [i32::MIN, 3]);
    }
}
