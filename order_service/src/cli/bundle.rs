//! Command `bundle validate`: checks a bundle.

use clap::ArgMatches;
use reconcile::{Bundle, BundleDiagnostic, BundleSource};
use serde_json::json;
use settings::ResolvedSettings;

use super::{CommandFailure, output};
use crate::reconcilers::bundle::find_bundle_problems;
use crate::settings::read_bundle_setting;

pub(super) fn validate_bundle(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let place = read_bundle_setting(resolved)?.unwrap_or(BundleSource::Builtin);
    let bundle = Bundle::read(place).map_err(CommandFailure::Failed)?;
    let diagnostics = find_bundle_problems(&bundle);
    if output::is_json_output(args) {
        output::print_json(
            json!({"valid": diagnostics.is_empty(), "files": bundle.file_count(), "errors": diagnostics}),
        );
    } else {
        diagnostics.iter().for_each(output::print_line);
    }
    if !diagnostics.is_empty() {
        return Err(unsound_bundle_failure(&bundle, &diagnostics));
    }
    if !output::is_json_output(args) {
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
