//! Parsed command line of `reconcile`.

use clap::ArgMatches;
use reconcile::{ObjectOwner, ReconcileRequest};

use super::super::CommandFailure;

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
    pub(super) fn new(args: &ArgMatches) -> Result<Self, CommandFailure> {
        let drift_only = args.get_flag("drift");
        let plan_file = match (get_text_arg(args, "plan-out"), get_text_arg(args, "apply")) {
            (Some(file), _) => PlanFileMode::PlanOut(file),
            (None, Some(file)) => PlanFileMode::Apply(file),
            (None, None) => PlanFileMode::Nothing,
        };
        // `--drift` and `--plan-out` imply a dry run.
        let dry_run =
            args.get_flag("dry-run") || drift_only || matches!(plan_file, PlanFileMode::PlanOut(_));
        Ok(Self {
            request: parse_request(args, dry_run)?,
            compare_to: get_text_arg(args, "early-exit-compare"),
            changed_since: get_text_arg(args, "changed-since"),
            only_affected_shards: args.get_flag("check-only-affected-shards"),
            shard: get_text_arg(args, "shard"),
            sample_ratio: args
                .get_one::<String>("sample-skipped")
                .map_or(Ok(0.0), |text| parse_percent(text))?,
            pool_size: args
                .get_one::<u16>("pool-size")
                .map_or(reconcile::DEFAULT_POOL_SIZE, |size| (*size).into()),
            drift_only,
            plan_file,
            url: get_text_arg(args, "url"),
        })
    }
}

fn get_text_arg(args: &ArgMatches, name: &str) -> Option<String> {
    args.get_one::<String>(name).cloned()
}

fn parse_request(args: &ArgMatches, dry_run: bool) -> Result<ReconcileRequest, CommandFailure> {
    let reconcilers = args.get_many::<String>("integration").into_iter().flatten();
    let mut arguments = Vec::new();
    for text in args.get_many::<String>("arg").into_iter().flatten() {
        let Some((key, value)) = text.split_once('=') else {
            return Err(CommandFailure::Usage(format!(
                "--arg: `{text}` is not KEY=VALUE (such as shard=s0)"
            )));
        };
        arguments.push((key.to_owned(), value.to_owned()));
    }
    Ok(ReconcileRequest {
        reconcilers: reconcilers.cloned().collect(),
        arguments,
        dry_run,
        take_over: args.get_flag("take-over"),
        allow_delete_all: args.get_flag("allow-delete-all"),
        owner: ObjectOwner::Bundle,
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
