//! `bundle validate` and `reconcile`.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use indicatif::ProgressBar;
use reconcile::{Bundle, Diagnostic, Owner, Place, Report, Request, RequestError};
use serde_json::json;
use settings::Resolved;

use super::{Failure, output};
use crate::bundle::{InUse, Shards, problems, runtime};
use crate::serve::database::{self, Database};
use crate::settings::{DatabaseSettings, bundle};

pub(super) fn validate(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let place = bundle(resolved)?.unwrap_or(Place::Builtin);
    let bundle = Bundle::read(place).map_err(Failure::Failed)?;
    let wrong = problems(&bundle);
    if output::is_json(args) {
        output::line(json!({"valid": wrong.is_empty(), "files": bundle.files(), "errors": wrong}));
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

pub(super) async fn reconcile(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let place = bundle(resolved)?
        .ok_or_else(|| Failure::Usage("reconcile: which bundle? give --bundle DIR".to_owned()))?;
    let request = request(args)?;
    let settings = DatabaseSettings::new(resolved)?;
    let bundle = Bundle::read(place).map_err(Failure::Failed)?;
    let database = Arc::new(database::open(&settings).await?);
    let usage = Arc::new(InUse::new(database.pool.clone(), shards(settings, database.clone())));
    let spinner = spinner();
    let report = runtime(&database.pool, usage).run(&bundle, &request).await;
    spinner.finish_and_clear();
    database.pool.close().await;
    match report {
        Ok(report) => show(args, &report),
        Err(RequestError::Usage(line)) => Err(Failure::Usage(format!("reconcile: {line}"))),
        Err(RequestError::Bundle(wrong)) => {
            if output::is_json(args) {
                output::line(json!({"valid": false, "files": bundle.files(), "errors": wrong}));
            } else {
                wrong.iter().for_each(|diagnostic| eprintln!("{diagnostic}"));
            }
            Err(unsound(&bundle, &wrong))
        }
    }
}

fn request(args: &ArgMatches) -> Result<Request, Failure> {
    let given = |name| args.get_many::<String>(name).into_iter().flatten();
    let pair = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--arg: `{text}` is not KEY=VALUE (such as shard=s0)")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    Ok(Request {
        integrations: given("integration").cloned().collect(),
        arguments: given("arg").map(pair).collect::<Result<_, Failure>>()?,
        dry_run: args.get_flag("dry-run"),
        take_over: args.get_flag("take-over"),
        owner: Owner::Bundle,
    })
}

fn show(args: &ArgMatches, report: &Report) -> Result<(), Failure> {
    if output::is_json(args) {
        output::line(report.to_json());
    } else {
        output::line(report);
    }
    report.complaint().map_or(Ok(()), |complaint| Err(Failure::Failed(complaint)))
}

fn unsound(bundle: &Bundle, wrong: &[Diagnostic]) -> Failure {
    let things = if wrong.len() == 1 { "problem" } else { "problems" };
    Failure::Failed(format!("{} has {} {things}", bundle.place(), wrong.len()))
}

/// The shards that the settings name, opened when they are asked.
fn shards(settings: DatabaseSettings, database: Arc<Database>) -> Shards {
    Box::new(move || {
        let (settings, database) = (settings.clone(), database.clone());
        Box::pin(async move {
            let look = crate::serve::ledger::look(&settings, &database).await;
            look.map_err(|error| format!("{error:#}"))
        })
    })
}

fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message("reconciling");
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
