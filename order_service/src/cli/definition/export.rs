//! Commands `export …`.

use clap::{Arg, Command};

use super::{command_with_example, output_arg, setting_args, switch_arg};

/// Settings of the export engine and the exported shards.
const EXPORT_SETTING_NAMES: [&str; 6] =
    ["database-url", "data-dir", "shards", "export-engine", "nats-url", "config"];

pub(super) fn export_command() -> Command {
    Command::new("export")
        .about("Proves what was exported, and decides after an alarm")
        .arg_required_else_help(true)
        .subcommand(
            command_with_example(
                "verify",
                "Compares stream and ledger: counts, checksums, gaps, order, every event; exit code 1 if they differ",
                "order_service export verify\n         order_service export verify --shard s0 --output json",
            )
            .args(setting_args(&EXPORT_SETTING_NAMES))
            .arg(Arg::new("shard").long("shard").value_name("SHARD").help("Only this shard [default: all of them]"))
            .arg(output_arg()),
        )
        .subcommand(
            command_with_example(
                "new-epoch",
                "After a ledger was put back behind its broker: begins an epoch after what both have in common",
                "order_service export new-epoch s0 --dry-run",
            )
            .args(setting_args(&EXPORT_SETTING_NAMES))
            .arg(shard_arg())
            .arg(dry_run_arg())
            .arg(output_arg()),
        )
        .subcommand(
            command_with_example(
                "resume",
                "After a broker was put back to an older copy: sends again what it lacks, and says what that is",
                "order_service export resume s0 --from-broker --dry-run",
            )
            .args(setting_args(&EXPORT_SETTING_NAMES))
            .arg(shard_arg())
            .arg(switch_arg("from-broker", "Go on from what the broker holds now").required(true))
            .arg(dry_run_arg())
            .arg(output_arg()),
        )
}

fn shard_arg() -> Arg {
    Arg::new("shard")
        .value_name("SHARD")
        .required(true)
        .help("The shard's name, as in `ledger shards`")
}

fn dry_run_arg() -> Arg {
    switch_arg("dry-run", "Only say what would be decided")
}
