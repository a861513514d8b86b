//! `bundle validate`.

use clap::ArgMatches;
use reconcile::{Bundle, Diagnostic, Place};
use serde_json::json;
use settings::Resolved;

use super::{Failure, output};
use crate::bundle::problems;
use crate::settings::bundle;

pub(super) fn validate(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let place = bundle(resolved)?.unwrap_or(Place::Builtin);
    let bundle = Bundle::read(place).map_err(Failure::Failed)?;
    let wrong = problems(&bundle);
    if output::is_json(args) {
        output::json(json!({"valid": wrong.is_empty(), "files": bundle.files(), "errors": wrong}));
    } else {
        wrong.iter().for_each(output::line);
    }
    if !wrong.is_empty() {
        return Err(unsound(&bundle, &wrong));
    }
    if !output::is_json(args) {
        output::line(format!("{}: {} files, all sound", bundle.place(), bundle.files()));
    }
    Ok(())
}

/// Why nothing can be done with a bundle.
pub(super) fn unsound(bundle: &Bundle, wrong: &[Diagnostic]) -> Failure {
    let things = if wrong.len() == 1 { "problem" } else { "problems" };
    Failure::Failed(format!("{} has {} {things}", bundle.place(), wrong.len()))
}
