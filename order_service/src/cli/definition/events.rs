//! Commands about events.

use clap::{Arg, Command, value_parser};

use super::{output, shown, switch, with_example};

pub(super) fn action_configs() -> Command {
    let example = "order_service action-configs --bundle configs --dry-run --history 1000\n         \
                   EVENTS_TOKEN=… order_service action-configs --bundle configs --url http://localhost:8095";
    let about = "Brings a service's action configs to what a bundle says";
    with_example("action-configs", about, example)
        .args(shown(&["bundle", "database-url", "data-dir", "config"]))
        .arg(switch("dry-run", "Only show what would be done; writes nothing"))
        .arg(switch("take-over", "Take over what belongs to the API or the configurator"))
        .arg(super::reconcile::allow_delete_all())
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
        .arg(output())
}
