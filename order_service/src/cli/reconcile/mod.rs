//! `reconcile`: reads the bundles, decides what has to be run, and runs it: here, or in a service.
//!
//! What need not be run needs no database: a merge request that changes nothing is checked without one.

mod asked;
mod connection;
mod remote;
mod show;
mod targets;

use clap::ArgMatches;
use reconcile::{Bundle, Decided, Narrowing, Owner, Pace, Place, Report, RequestError, SavedPlan};
use settings::Resolved;

use super::{Failure, output};
use crate::bundle::runtime;
use crate::serve::database::Access;
use crate::settings::{DatabaseSettings, QueueEngine, QueueSettings, bundle};
use asked::{Asked, Saving};
use remote::Service;
use targets::Targets;

/// Where the targets are.
struct Settings {
    database: DatabaseSettings,
    queues: QueueEngine,
}

impl Settings {
    fn new(resolved: &Resolved) -> Result<Self, Failure> {
        let database = DatabaseSettings::new(resolved)?;
        Ok(Self { database, queues: QueueSettings::new(resolved)?.engine })
    }
}

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let place = bundle(resolved)?
        .ok_or_else(|| Failure::Usage("reconcile: which bundle? give --bundle DIR".to_owned()))?;
    let asked = Asked::new(args)?;
    if let Some(url) = &asked.url {
        Service::at(url)?;
    }
    let settings = Settings::new(resolved)?;
    let shard = Narrowing { shard: asked.shard.clone(), ..Narrowing::default() };
    let known = runtime(&targets::none(&settings.database)?).check_request(&asked.request, &shard);
    known.map_err(|error| Failure::Usage(format!("reconcile: {error}")))?;
    let bundle = Bundle::read(place).map_err(Failure::Failed)?;
    for (flag, named) in [("--early-exit-compare", &asked.compare), ("--changed-since", &asked.changed_since)]
    {
        if let Some(doubt) = named.as_ref().and_then(|named| bundle.place().doubt(named)) {
            return Err(Failure::Usage(format!("{flag}: {doubt}")));
        }
    }
    let bar = show::bar();
    let pace = Pace { pool_size: asked.pool_size, progress: Some(show::progress(&bar)) };
    let done = match &asked.saving {
        Saving::Apply(file) => apply(&asked, &settings, &bundle, file, &pace).await,
        Saving::Nothing | Saving::PlanOut(_) => reconcile(&asked, &settings, &bundle, &pace).await,
    };
    bar.finish_and_clear();
    match done? {
        Ok(report) => show::report(args, &asked, &report),
        Err(RequestError::Bundle(wrong)) => Err(show::unsound(args, &bundle, &wrong)),
        Err(RequestError::Usage(line)) => Err(Failure::Usage(format!("reconcile: {line}"))),
        Err(error @ RequestError::Moved(_)) => Err(Failure::Failed(error.to_string())),
    }
}

/// What a run gave, or why there was none.
type Done = Result<Result<Report, RequestError>, Failure>;

async fn reconcile(asked: &Asked, settings: &Settings, bundle: &Bundle, pace: &Pace) -> Done {
    let offline = runtime(&targets::none(&settings.database)?);
    let compare = asked.compare.as_deref().map(|named| other(bundle, named));
    let changed_since = asked.changed_since.as_deref().map(|named| other(bundle, named));
    let narrowing = Narrowing {
        compare: as_ref(&compare),
        changed_since: as_ref(&changed_since),
        only_affected: asked.only_affected,
        shard: asked.shard.clone(),
        sample: asked.sample,
        ..Narrowing::default()
    };
    let decided = match offline.decide(bundle, &asked.request, &narrowing).await {
        Ok(decided) => decided,
        Err(error) => return Ok(Err(error)),
    };
    decided.warnings.iter().for_each(|warning| output::remark(format!("warning: {warning}")));
    let report = if !decided.runs_anything() {
        offline.carry_out(bundle, &asked.request, &decided, pace).await
    } else if let Some(url) = &asked.url {
        Service::at(url)?.run(bundle, &asked.request, &decided, pace.pool_size).await?
    } else {
        let access = if asked.request.dry_run { Access::Existing } else { Access::CreateMissing };
        let targets = Targets::open(&settings.database, &settings.queues, access).await?;
        let report = runtime(&targets.targets).carry_out(bundle, &asked.request, &decided, pace).await;
        targets.close().await;
        report
    };
    if let (Ok(report), Saving::PlanOut(file)) = (&report, &asked.saving) {
        save(asked, bundle, &decided, report, file)?;
    }
    Ok(report)
}

async fn apply(asked: &Asked, settings: &Settings, bundle: &Bundle, file: &str, pace: &Pace) -> Done {
    let said = |reason: String| Failure::Failed(format!("--apply {file}: {reason}"));
    let text = std::fs::read_to_string(file).map_err(|error| said(error.to_string()))?;
    let saved = SavedPlan::parse(&text).map_err(said)?;
    if let Some(url) = &asked.url {
        return Service::at(url)?.apply(bundle, &saved, pace.pool_size).await;
    }
    let targets = Targets::open(&settings.database, &settings.queues, Access::CreateMissing).await?;
    let report = runtime(&targets.targets).apply(bundle, &saved, Owner::Bundle, pace).await;
    targets.close().await;
    Ok(report)
}

/// The bundle to be held against this one, or why it cannot be had.
fn other(bundle: &Bundle, named: &str) -> Result<Bundle, String> {
    let place: Place = bundle.place().other(named)?;
    Bundle::read_beside(place, Some(bundle))
}

fn as_ref(other: &Option<Result<Bundle, String>>) -> Option<Result<&Bundle, String>> {
    other.as_ref().map(|other| other.as_ref().map_err(Clone::clone))
}

/// Whole or not at all: a plan is made of what succeeded.
fn save(
    asked: &Asked,
    bundle: &Bundle,
    decided: &Decided,
    report: &Report,
    file: &str,
) -> Result<(), Failure> {
    if !report.succeeded() {
        output::remark(format!("warning: no plan was written to {file}: not everything can be done"));
        return Ok(());
    }
    let saved = SavedPlan::of(bundle, &asked.request, decided, report);
    let said = |error: std::io::Error| Failure::Failed(format!("--plan-out {file}: {error}"));
    let text = serde_json::to_string_pretty(&saved).map_err(|error| said(error.into()))?;
    let beside = format!("{file}.{}.new", std::process::id());
    std::fs::write(&beside, text + "\n").map_err(said)?;
    std::fs::rename(&beside, file).map_err(said)
}
