//! `reconcile`: reads the bundles, decides which runs are needed, and executes them locally or in a
//! service.
//!
//! Skipped runs need no database: a merge request without changes is checked offline.

mod command;
mod remote;
mod show;
mod targets;

use http::HeaderValue;
use reconcile::{
    Bundle, BundleSource, DecidedRuns, ObjectOwner, ReconcileNarrowing, ReconcileOptions,
    ReconcileReport, ReconcileRequestError, SavedPlan,
};
use serving::tls::{ClientTls, open_command_tls};
use settings::ResolvedSettings;

use super::command_token::command_token_or_variable;
use super::service_connection::is_tls_address;
use super::{CommandFailure, output};
pub(super) use command::ReconcileArgs;
use command::{PlanFileMode, ReconcileCommand};
use order_service::reconcilers::bundle::reconcile_runtime;
use order_service::serve::database::DatabaseAccess;
use order_service::settings::{DatabaseSettings, QueueEngine, QueueSettings, read_bundle_setting};
use remote::ReconcileHttpClient;
use targets::OpenReconcileTargets;

/// Settings of the targets.
struct ReconcileCommandSettings {
    database: DatabaseSettings,
    queues: QueueEngine,
    /// Token of calls to a running service, with `--url`.
    token: Option<HeaderValue>,
    /// TLS of those calls, with an `https://` URL.
    tls: Option<ClientTls>,
}

impl ReconcileCommandSettings {
    fn new(resolved: &ResolvedSettings, url: Option<&str>) -> Result<Self, CommandFailure> {
        let database = DatabaseSettings::new(resolved)?;
        let token = match url {
            Some(_) => command_token_or_variable(resolved, remote::TOKEN_VARIABLE)?,
            None => None,
        };
        let tls = match url {
            Some(url) if is_tls_address(url, resolved) => Some(open_command_tls(resolved, &[])?),
            _ => None,
        };
        Ok(Self { database, queues: QueueSettings::new(resolved)?.engine, token, tls })
    }
}

pub(super) async fn run_reconcile_command(
    args: &ReconcileArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let source = read_bundle_setting(resolved)?.ok_or_else(|| {
        CommandFailure::Usage("reconcile: which bundle? give --bundle DIR".to_owned())
    })?;
    let command = ReconcileCommand::new(args)?;
    if let Some(url) = &command.url {
        ReconcileHttpClient::from_url(url, None, None)?;
    }
    let settings = ReconcileCommandSettings::new(resolved, command.url.as_deref())?;
    let shard =
        ReconcileNarrowing { shard: command.shard.clone(), ..ReconcileNarrowing::default() };
    let checked = reconcile_runtime(&targets::unreachable_targets(&settings.database)?)
        .check_request(&command.request, &shard);
    checked.map_err(|error| CommandFailure::Usage(format!("reconcile: {error}")))?;
    let bundle = Bundle::read(source).map_err(CommandFailure::Failed)?;
    for (flag, named) in
        [("--early-exit-compare", &command.compare_to), ("--changed-since", &command.changed_since)]
    {
        if let Some(reason) =
            named.as_ref().and_then(|named| bundle.source().explain_ambiguity(named))
        {
            return Err(CommandFailure::Usage(format!("{flag}: {reason}")));
        }
    }
    let bar = show::reconcile_progress_bar();
    let options = ReconcileOptions {
        pool_size: command.pool_size,
        progress: Some(show::progress_callback(&bar)),
    };
    let done = match &command.plan_file {
        PlanFileMode::Apply(file) => {
            apply_plan_file(&command, &settings, &bundle, file, &options).await
        }
        PlanFileMode::Nothing | PlanFileMode::PlanOut(_) => {
            reconcile_targets(&command, &settings, &bundle, &options).await
        }
    };
    bar.finish_and_clear();
    match done? {
        Ok(report) => show::print_report(args.output, &command, &report),
        Err(ReconcileRequestError::InvalidBundle(wrong)) => {
            Err(show::print_unsound_bundle(args.output, &bundle, &wrong))
        }
        Err(ReconcileRequestError::InvalidUsage(line)) => {
            Err(CommandFailure::Usage(format!("reconcile: {line}")))
        }
        Err(error @ ReconcileRequestError::StalePlan(_)) => {
            Err(CommandFailure::Failed(error.to_string()))
        }
    }
}

/// Report of a run, or why it failed.
type ReconcileRunResult = Result<Result<ReconcileReport, ReconcileRequestError>, CommandFailure>;

async fn reconcile_targets(
    command: &ReconcileCommand,
    settings: &ReconcileCommandSettings,
    bundle: &Bundle,
    options: &ReconcileOptions,
) -> ReconcileRunResult {
    let offline = reconcile_runtime(&targets::unreachable_targets(&settings.database)?);
    let compare = command.compare_to.as_deref().map(|named| read_other_bundle(bundle, named));
    let changed_since =
        command.changed_since.as_deref().map(|named| read_other_bundle(bundle, named));
    let narrowing = ReconcileNarrowing {
        compare: borrow_bundle(&compare),
        changed_since: borrow_bundle(&changed_since),
        only_affected: command.only_affected_shards,
        shard: command.shard.clone(),
        sample_ratio: command.sample_ratio,
        ..ReconcileNarrowing::default()
    };
    let decided = match offline.decide_runs(bundle, &command.request, &narrowing).await {
        Ok(decided) => decided,
        Err(error) => return Ok(Err(error)),
    };
    decided.warnings.iter().for_each(|warning| output::print_remark(format!("warning: {warning}")));
    let report = if !decided.has_runs() {
        offline.execute(bundle, &command.request, &decided, options).await
    } else if let Some(url) = &command.url {
        ReconcileHttpClient::from_url(url, settings.token.clone(), settings.tls.clone())?
            .run(bundle, &command.request, &decided, options.pool_size)
            .await?
    } else {
        let access = if command.request.dry_run {
            DatabaseAccess::Existing
        } else {
            DatabaseAccess::CreateMissing
        };
        let targets =
            OpenReconcileTargets::open(&settings.database, &settings.queues, access).await?;
        let report = reconcile_runtime(&targets.targets)
            .execute(bundle, &command.request, &decided, options)
            .await;
        targets.close().await;
        report
    };
    if let (Ok(report), PlanFileMode::PlanOut(file)) = (&report, &command.plan_file) {
        save_plan_file(command, bundle, &decided, report, file)?;
    }
    Ok(report)
}

async fn apply_plan_file(
    command: &ReconcileCommand,
    settings: &ReconcileCommandSettings,
    bundle: &Bundle,
    file: &str,
    options: &ReconcileOptions,
) -> ReconcileRunResult {
    let text = std::fs::read_to_string(file)
        .map_err(|error| CommandFailure::Failed(format!("--apply {file}: {error}")))?;
    let saved = SavedPlan::parse(&text)
        .map_err(|reason| CommandFailure::Failed(format!("--apply {file}: {reason}")))?;
    if let Some(url) = &command.url {
        return ReconcileHttpClient::from_url(url, settings.token.clone(), settings.tls.clone())?
            .apply(bundle, &saved, options.pool_size)
            .await;
    }
    let targets = OpenReconcileTargets::open(
        &settings.database,
        &settings.queues,
        DatabaseAccess::CreateMissing,
    )
    .await?;
    let report = reconcile_runtime(&targets.targets)
        .apply(bundle, &saved, ObjectOwner::Bundle, command.request.actor.clone(), options)
        .await;
    targets.close().await;
    Ok(report)
}

/// Bundle to compare with, or why it cannot be read.
fn read_other_bundle(bundle: &Bundle, named: &str) -> Result<Bundle, String> {
    let place: BundleSource = bundle.source().resolve_other(named)?;
    Bundle::read_reusing(place, Some(bundle))
}

fn borrow_bundle(other: &Option<Result<Bundle, String>>) -> Option<Result<&Bundle, String>> {
    other.as_ref().map(|other| other.as_ref().map_err(Clone::clone))
}

/// Writes the plan file atomically, and only if all runs succeeded.
fn save_plan_file(
    command: &ReconcileCommand,
    bundle: &Bundle,
    decided: &DecidedRuns,
    report: &ReconcileReport,
    file: &str,
) -> Result<(), CommandFailure> {
    if !report.has_succeeded() {
        output::print_remark(format!(
            "warning: no plan was written to {file}: not everything can be done"
        ));
        return Ok(());
    }
    let saved = SavedPlan::from_report(bundle, &command.request, decided, report);
    write_plan(&saved, file)
        .map_err(|error| CommandFailure::Failed(format!("--plan-out {file}: {error}")))
}

fn write_plan(saved: &SavedPlan, file: &str) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(saved)?;
    let temporary_file = format!("{file}.{}.new", std::process::id());
    std::fs::write(&temporary_file, text + "\n")?;
    std::fs::rename(&temporary_file, file)
}
