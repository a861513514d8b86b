//! Command `reconcile`.

use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};

use super::{command_with_example, output_arg, setting_args, switch_arg};

/// Definition of the command.
pub(super) fn reconcile_command() -> Command {
    let example = "order_service reconcile --bundle configs --dry-run\n         \
                   order_service reconcile ledger-types --bundle configs\n         \
                   order_service reconcile --bundle configs --dry-run --early-exit-compare origin/main --check-only-affected-shards\n         \
                   order_service reconcile --bundle configs --plan-out plan.json && order_service reconcile --bundle configs --apply plan.json";
    command_with_example("reconcile", "Brings the platform to what a bundle (--bundle DIR) says", example)
        .args(setting_args(&["bundle", "database-url", "data-dir", "shards", "config"]))
        .arg(Arg::new("integration").value_name("INTEGRATION").action(ArgAction::Append).help(
            "What is brought there: ledger-types, postings, schedules, action-configs, partitions, queues [default: all of them]",
        ))
        .arg(switch_arg("dry-run", "Only show what would be done; writes nothing"))
        .args(narrowing_args())
        .args(plan_file_args())
        .arg(switch_arg("drift", "Only report what is not as the bundle says; exit code 3 if anything is"))
        .arg(switch_arg("take-over", "Take over what belongs to the API or the configurator"))
        .arg(allow_delete_all_arg())
        .arg(
            Arg::new("arg")
                .long("arg")
                .value_name("KEY=VALUE")
                .action(ArgAction::Append)
                .help("An argument of the one integration; may be repeated"),
        )
        .arg(value_arg(
            "url",
            "URL",
            "Bring a running service there over HTTP, with the token in RECONCILE_TOKEN if there is one",
        ))
        .arg(output_arg())
        // The plan file already contains these.
        .group(ArgGroup::new("said-by-the-plan").multiple(true).args([
            "integration",
            "dry-run",
            "early-exit-compare",
            "changed-since",
            "shard",
            "drift",
            "take-over",
            "allow-delete-all",
            "arg",
            "plan-out",
        ]))
        .group(ArgGroup::new("narrowed").multiple(true).args([
            "early-exit-compare",
            "check-only-affected-shards",
            "changed-since",
            "sample-skipped",
        ]))
}

/// Flag `--allow-delete-all`, shared with `action-configs`.
pub(super) fn allow_delete_all_arg() -> Arg {
    let help = "Delete everything of a kind if the bundle has nothing of it; without this, that is refused";
    switch_arg("allow-delete-all", help)
}

/// Flags that restrict a run.
fn narrowing_args() -> [Arg; 6] {
    [
        value_arg(
            "early-exit-compare",
            "REV_OR_DIR",
            "In a dry run, do nothing where the desired state is that of this revision, or of the bundle in this folder",
        )
        .requires("dry-run"),
        switch_arg("check-only-affected-shards", "In a dry run, look only at the shards that differ")
            .requires("early-exit-compare"),
        value_arg("changed-since", "REV", "Skip integrations for which nothing has changed since this revision"),
        value_arg("shard", "NAME", "Only this shard of the one integration").conflicts_with("check-only-affected-shards"),
        value_arg("pool-size", "COUNT", "Shards that are run at the same time at most")
            .default_value("10")
            .value_parser(value_parser!(u16).range(1..=1000)),
        value_arg(
            "sample-skipped",
            "PERCENT",
            "Run this part of the skipped shards all the same, and fail if one would have changed something",
        )
        .requires("early-exit-compare"),
    ]
}

/// Flags that write or read a plan file.
fn plan_file_args() -> [Arg; 2] {
    [
        value_arg("plan-out", "FILE", "Only plan, and write the plan to this file")
            .conflicts_with_all(["narrowed", "drift"]),
        value_arg(
            "apply",
            "FILE",
            "Do what this plan says; refused if the bundle or a target has moved since",
        )
        .conflicts_with("said-by-the-plan"),
    ]
}

fn value_arg(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}
