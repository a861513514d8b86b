//! Parsed command line of `reconcile`.

use audit::AuditActor;
use clap::{ArgGroup, Args, value_parser};
use reconcile::{ObjectOwner, ReconcileRequest};

use super::super::CommandFailure;
use super::super::definition::{all_examples, first_example, setting_args};
use super::super::output::OutputArgs;
use super::super::ownership::OwnershipArgs;

const EXAMPLES: &str = "order_service reconcile --bundle configs --dry-run\n         \
     order_service reconcile ledger-types --bundle configs\n         \
     order_service reconcile --bundle configs --dry-run --early-exit-compare origin/main --check-only-affected-shards\n         \
     order_service reconcile --bundle configs --plan-out plan.json && order_service reconcile --bundle configs --apply plan.json";

/// Arguments that a plan file already contains, in the order of the error that names them.
const SAID_BY_THE_PLAN: [&str; 10] = [
    "integrations",
    "dry_run",
    "early_exit_compare",
    "changed_since",
    "shard",
    "drift",
    "take_over",
    "allow_delete_all",
    "arguments",
    "plan_out",
];

/// Arguments of the command. The group `narrowed` are the flags that restrict a run.
#[derive(Debug, Args)]
#[command(
    about = "Brings the platform to what a bundle (--bundle DIR) says",
    args = setting_args(&["bundle", "database-url", "data-dir", "shards", "token-file", "tls-ca", "config"]),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES),
    group = ArgGroup::new("said-by-the-plan").multiple(true).args(SAID_BY_THE_PLAN),
    group = ArgGroup::new("narrowed").multiple(true)
)]
#[group(skip)]
pub(in crate::cli) struct ReconcileArgs {
    #[arg(
        value_name = "INTEGRATION",
        num_args = 1,
        help = "What is brought there: ledger-types, postings, schedules, action-configs, partitions, queues [default: all of them]"
    )]
    integrations: Vec<String>,
    #[arg(long, help = "Only show what would be done; writes nothing")]
    dry_run: bool,
    #[arg(
        long,
        value_name = "REV_OR_DIR",
        requires = "dry_run",
        group = "narrowed",
        help = "In a dry run, do nothing where the desired state is that of this revision, or of the bundle in this folder"
    )]
    early_exit_compare: Option<String>,
    #[arg(
        long,
        requires = "early_exit_compare",
        group = "narrowed",
        help = "In a dry run, look only at the shards that differ"
    )]
    check_only_affected_shards: bool,
    #[arg(
        long,
        value_name = "REV",
        group = "narrowed",
        help = "Skip integrations for which nothing has changed since this revision"
    )]
    changed_since: Option<String>,
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "check_only_affected_shards",
        help = "Only this shard of the one integration"
    )]
    shard: Option<String>,
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "10",
        value_parser = value_parser!(u16).range(1..=1000),
        help = "Shards that are run at the same time at most"
    )]
    pool_size: u16,
    #[arg(
        long,
        value_name = "PERCENT",
        requires = "early_exit_compare",
        group = "narrowed",
        help = "Run this part of the skipped shards all the same, and fail if one would have changed something"
    )]
    sample_skipped: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["narrowed", "drift"],
        help = "Only plan, and write the plan to this file"
    )]
    plan_out: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "said-by-the-plan",
        help = "Do what this plan says; refused if the bundle or a target has moved since"
    )]
    apply: Option<String>,
    #[arg(long, help = "Only report what is not as the bundle says; exit code 3 if anything is")]
    drift: bool,
    #[command(flatten)]
    ownership: OwnershipArgs,
    #[arg(
        long = "arg",
        value_name = "KEY=VALUE",
        help = "An argument of the one integration; may be repeated"
    )]
    arguments: Vec<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "Bring a running service there over HTTP, with the token in RECONCILE_TOKEN, else of --token-file"
    )]
    url: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Parsed arguments of the command.
pub(super) struct ReconcileCommand {
    pub(super) request: ReconcileRequest,
    pub(super) compare_to: Option<String>,
    pub(super) changed_since: Option<String>,
    pub(super) only_affected_shards: bool,
    pub(super) shard: Option<String>,
    pub(super) sample_ratio: f64,
    pub(super) pool_size: usize,
    pub(super) drift_only: bool,
    pub(super) plan_file: PlanFileMode,
    pub(super) url: Option<String>,
}

/// Use of a plan file.
pub(super) enum PlanFileMode {
    /// No plan file: apply the plan, or print it in a dry run.
    Nothing,
    /// Write the plan to this file.
    PlanOut(String),
    /// Apply the plan of this file.
    Apply(String),
}

impl ReconcileCommand {
    pub(super) fn new(args: &ReconcileArgs) -> Result<Self, CommandFailure> {
        let plan_file = match (args.plan_out.clone(), args.apply.clone()) {
            (Some(file), _) => PlanFileMode::PlanOut(file),
            (None, Some(file)) => PlanFileMode::Apply(file),
            (None, None) => PlanFileMode::Nothing,
        };
        // `--drift` and `--plan-out` imply a dry run.
        let dry_run = args.dry_run || args.drift || matches!(plan_file, PlanFileMode::PlanOut(_));
        Ok(Self {
            request: build_request(args, dry_run)?,
            compare_to: args.early_exit_compare.clone(),
            changed_since: args.changed_since.clone(),
            only_affected_shards: args.check_only_affected_shards,
            shard: args.shard.clone(),
            sample_ratio: args.sample_skipped.as_deref().map_or(Ok(0.0), parse_percent)?,
            pool_size: args.pool_size.into(),
            drift_only: args.drift,
            plan_file,
            url: args.url.clone(),
        })
    }
}

fn build_request(args: &ReconcileArgs, dry_run: bool) -> Result<ReconcileRequest, CommandFailure> {
    let mut arguments = Vec::new();
    for text in &args.arguments {
        let Some((key, value)) = text.split_once('=') else {
            return Err(CommandFailure::Usage(format!(
                "--arg: `{text}` is not KEY=VALUE (such as shard=s0)"
            )));
        };
        arguments.push((key.to_owned(), value.to_owned()));
    }
    Ok(ReconcileRequest {
        reconcilers: args.integrations.clone(),
        arguments,
        dry_run,
        take_over: args.ownership.take_over,
        allow_delete_all: args.ownership.allow_delete_all,
        owner: ObjectOwner::Bundle,
        actor: AuditActor::of_command(),
    })
}

/// Percentage as a fraction, 0 to 1.
fn parse_percent(text: &str) -> Result<f64, CommandFailure> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let part =
        number.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
    part.ok_or_else(|| {
        CommandFailure::Usage(format!("--sample-skipped: `{text}` is not a percentage, such as 5%"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_a_part() {
        for (text, expected) in
            [("5%", Some(0.05)), ("100", Some(1.0)), ("0%", Some(0.0)), ("2.5 %", Some(0.025))]
        {
            assert_eq!(parse_percent(text).ok(), expected, "{text}");
        }
        for bad in ["", "%", "101%", "-1", "NaN", "five"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
