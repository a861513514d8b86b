//! `export …`.

use clap::{Arg, Command};

use super::{output, shown, switch, with_example};

/// Settings that say what was exported, and where to.
const EXPORT: [&str; 6] = ["database-url", "data-dir", "shards", "export-engine", "nats-url", "config"];

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Proves what was exported, and decides after an alarm")
        .arg_required_else_help(true)
        .subcommand(
            with_example(
                "verify",
                "Compares stream and ledger: counts, checksums, gaps, order, every event; exit code 1 if they differ",
                "order_service export verify\n         order_service export verify --shard s0 --output json",
            )
            .args(shown(&EXPORT))
            .arg(Arg::new("shard").long("shard").value_name("SHARD").help("Only this shard [default: all of them]"))
            .arg(output()),
        )
        .subcommand(
            with_example(
                "new-epoch",
                "After a ledger was put back behind its broker: begins an epoch after what both have in common",
                "order_service export new-epoch s0 --dry-run",
            )
            .args(shown(&EXPORT))
            .arg(shard())
            .arg(dry_run())
            .arg(output()),
        )
        .subcommand(
            with_example(
                "resume",
                "After a broker was put back to an older copy: sends again what it lacks, and says what that is",
                "order_service export resume s0 --from-broker --dry-run",
            )
            .args(shown(&EXPORT))
            .arg(shard())
            .arg(switch("from-broker", "Go on from what the broker holds now").required(true))
            .arg(dry_run())
            .arg(output()),
        )
}

fn shard() -> Arg {
    Arg::new("shard").value_name("SHARD").required(true).help("The shard's name, as in `ledger shards`")
}

fn dry_run() -> Arg {
    switch("dry-run", "Only say what would be decided")
}
