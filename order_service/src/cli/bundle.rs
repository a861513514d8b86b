//! Command `bundle validate`: checks a bundle.

use clap::{Args, Subcommand};
use reconcile::{Bundle, BundleDiagnostic, BundleSource};
use serde_json::json;
use settings::ResolvedSettings;

use super::definition::{all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::{CommandFailure, missing_subcommand, output};
use order_service::reconcilers::bundle::find_bundle_problems;
use order_service::settings::read_bundle_setting;

const VALIDATE_EXAMPLES: &str = "order_service bundle validate --bundle configs";

/// Commands `bundle …`.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    Validate(ValidateBundleArgs),
}

/// Arguments of `bundle validate`.
#[derive(Debug, Args)]
#[command(
    about = "Checks every file of a bundle (--bundle DIR, or the built-in one) against its schema, and that they fit",
    args = setting_args(&["bundle", "config"]),
    after_help = first_example(VALIDATE_EXAMPLES),
    after_long_help = all_examples(VALIDATE_EXAMPLES)
)]
#[group(skip)]
pub(super) struct ValidateBundleArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run_bundle_command(
    command: Option<BundleCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("bundle"))? {
        BundleCommand::Validate(args) => validate_bundle(&args, resolved),
    }
}

fn validate_bundle(
    args: &ValidateBundleArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let source = read_bundle_setting(resolved)?.unwrap_or(BundleSource::Builtin);
    let bundle = Bundle::read(source).map_err(CommandFailure::Failed)?;
    let diagnostics = find_bundle_problems(&bundle);
    if args.output.is_json() {
        output::print_json(
            json!({"valid": diagnostics.is_empty(), "files": bundle.file_count(), "errors": diagnostics}),
        );
    } else {
        diagnostics.iter().for_each(output::print_line);
    }
    if !diagnostics.is_empty() {
        return Err(unsound_bundle_failure(&bundle, &diagnostics));
    }
    if !args.output.is_json() {
        output::print_line(format!(
            "{}: {} files, all sound",
            bundle.source(),
            bundle.file_count()
        ));
    }
    Ok(())
}

/// Failure of a command whose bundle has problems.
pub(super) fn unsound_bundle_failure(
    bundle: &Bundle,
    diagnostics: &[BundleDiagnostic],
) -> CommandFailure {
    let things = if diagnostics.len() == 1 { "problem" } else { "problems" };
    CommandFailure::Failed(format!("{} has {} {things}", bundle.source(), diagnostics.len()))
}
