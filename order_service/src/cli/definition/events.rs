//! Command `action-configs`.

use clap::{Arg, Command, value_parser};

use super::{command_with_example, output_arg, setting_args, switch_arg};

pub(super) fn action_configs_command() -> Command {
    let example = "order_service action-configs --bundle configs --dry-run --history 1000\n         \
                   EVENTS_TOKEN=… order_service action-configs --bundle configs --url http://localhost:8095";
    let about = "Brings a service's action configs to what a bundle says";
    command_with_example("action-configs", about, example)
        .args(setting_args(&["bundle", "database-url", "data-dir", "config"]))
        .arg(switch_arg("dry-run", "Only show what would be done; writes nothing"))
        .arg(switch_arg("take-over", "Take over what belongs to the API or the configurator"))
        .arg(super::reconcile::allow_delete_all_arg())
        .arg(
            Arg::new("history")
                .long("history")
                .value_name("COUNT")
                .value_parser(value_parser!(i64).range(1..=100_000))
                .help("Also show which of the latest events would start other tasks than they did"),
        )
        .arg(Arg::new("url").long("url").value_name("URL").help(
            "The running service, over its HTTP port, with the token from EVENTS_TOKEN [default: the database of the settings]",
        ))
        .arg(output_arg())
}
