//! Initial bundle of a new control database.
//!
//! - Shape: one transaction on every start; it writes only if no bundle was ever reconciled.
//! - Lock order: the advisory locks of ledger types, posting rules, schedules, action configs.
//! - Promise: of concurrent or later starts, only the first one writes.

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use events::configs::{self, ACTION_CONFIGS_RECONCILER, ActionConfig, parse_configs};
use ledger::types::{LEDGER_TYPES_RECONCILER, LedgerTypeDefinition, parse_bundle_types};
use reconcile::owned::{OwnedObjectTransaction, reconcile_in_tx};
use reconcile::{
    Bundle, BundleDiagnostic, BundleSource, ObjectOwner, OwnershipOptions, ReconcileRequest,
};
use sqlx::{PgConnection, PgPool};
use store::{LONG_OPERATION_TIMEOUT, PgOperation, StatementTarget};
use tasks::schedule::{SCHEDULES_RECONCILER, TaskSchedule, parse_schedules};

use super::{ReconcileTargets, reconcile_runtime};
use crate::orders::postings::{
    self, KnownAccountType, KnownAccountTypes, POSTINGS_RECONCILER, PostingRule, read_bundle_rules,
};
use crate::reconcilers::partitions::PARTITIONS_RECONCILER;
use crate::reconcilers::queues::QUEUES_RECONCILER;

/// Why the initial bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum InitialBundleError {
    /// The bundle is invalid or unreadable; one line.
    #[error("{0}")]
    Bundle(String),
    /// A statement on the control database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<BundleDiagnostic> for InitialBundleError {
    fn from(diagnostic: BundleDiagnostic) -> Self {
        Self::Bundle(diagnostic.to_string())
    }
}

/// Parsed content of the bundle.
struct InitialBundleContent {
    types: Vec<LedgerTypeDefinition>,
    rules: Vec<PostingRule>,
    schedules: Vec<TaskSchedule>,
    action_configs: Vec<ActionConfig>,
    owner: ObjectOwner,
    /// Name of the bundle.
    source: String,
}

/// Writes the built-in bundle to a control database that was never reconciled. Its objects have the
/// owner `builtin`.
pub async fn ensure_builtin_bundle(pool: &PgPool) -> Result<(), InitialBundleError> {
    ensure_initial_bundle(pool, &BundleSource::Builtin).await
}

/// Like [`ensure_initial_bundle`], and also reconciles the targets outside the control database. If
/// that fails or the service is killed, the next `reconcile` does it: serving does not depend on
/// it. Queues of an engine that can be unavailable are created in the background, so that the start
/// does not wait for them.
pub async fn apply_initial_bundle(
    targets: &ReconcileTargets,
    source: &BundleSource,
) -> Result<(), InitialBundleError> {
    if !write_initial_bundle(&targets.pool, source).await? {
        return Ok(());
    }
    let bundle = Bundle::read(source.clone()).map_err(InitialBundleError::Bundle)?;
    let owner = bundle_owner(source);
    if targets.queues.can_be_unavailable() {
        reconcile_initial_targets(targets, &bundle, &[PARTITIONS_RECONCILER], owner).await;
        let targets = targets.clone();
        tokio::spawn(async move {
            reconcile_initial_targets(&targets, &bundle, &[QUEUES_RECONCILER], owner).await
        });
    } else {
        reconcile_initial_targets(
            targets,
            &bundle,
            &[PARTITIONS_RECONCILER, QUEUES_RECONCILER],
            owner,
        )
        .await;
    }
    Ok(())
}

async fn reconcile_initial_targets(
    targets: &ReconcileTargets,
    bundle: &Bundle,
    reconcilers: &[&str],
    owner: ObjectOwner,
) {
    let reconciler_names = reconcilers.iter().map(|name| (*name).to_owned()).collect();
    let request = ReconcileRequest {
        reconcilers: reconciler_names,
        arguments: Vec::new(),
        dry_run: false,
        take_over: false,
        allow_delete_all: false,
        owner,
        actor: initial_actor(),
    };
    let what = reconcilers.join(" and ");
    match reconcile_runtime(targets)
        .run(bundle, &request)
        .await
        .map(|report| report.failure_summary())
    {
        Ok(None) => {}
        Ok(Some(complaint)) => {
            tracing::warn!(
                complaint,
                code = "UNAVAILABLE",
                "{what} are left to the next reconcile"
            );
        }
        Err(error) => tracing::warn!(%error, code = "LOGIC_ERROR", "{what}"),
    }
}

/// Writes this bundle to a control database that was never reconciled. Otherwise writes nothing,
/// and does not even read the bundle.
pub async fn ensure_initial_bundle(
    pool: &PgPool,
    source: &BundleSource,
) -> Result<(), InitialBundleError> {
    write_initial_bundle(pool, source).await.map(drop)
}

/// Whether this call wrote the bundle.
async fn write_initial_bundle(
    pool: &PgPool,
    source: &BundleSource,
) -> Result<bool, InitialBundleError> {
    if has_been_reconciled(pool).await? {
        return Ok(false);
    }
    let content = read_bundle_content(source)?;
    let first_bundle = PgOperation::named("first_bundle").with_timeout(LONG_OPERATION_TIMEOUT);
    let written = store::transaction(first_bundle, content)
        .run(pool, |connection, content| Box::pin(write_content_in_tx(connection, content)))
        .await?;
    if written {
        tracing::info!(bundle = %source, "the control database was empty and has this bundle's content now");
    }
    Ok(written)
}

/// Actor of what a new database gets at its first start.
fn initial_actor() -> AuditActor {
    AuditActor::of_service("start")
}

fn bundle_owner(source: &BundleSource) -> ObjectOwner {
    match source {
        BundleSource::Builtin => ObjectOwner::Builtin,
        BundleSource::Folder(_) | BundleSource::Revision(_) | BundleSource::Sent(_) => {
            ObjectOwner::Bundle
        }
    }
}

fn read_bundle_content(source: &BundleSource) -> Result<InitialBundleContent, InitialBundleError> {
    let bundle = Bundle::read(source.clone()).map_err(InitialBundleError::Bundle)?;
    if let Some(first) = super::find_bundle_problems(&bundle).first() {
        return Err(InitialBundleError::Bundle(format!(
            "{source} is not sound: {first} (see: bundle validate)"
        )));
    }
    Ok(InitialBundleContent {
        types: parse_bundle_types(&bundle)?,
        rules: read_bundle_rules(&bundle)?,
        schedules: parse_schedules(&bundle)?,
        action_configs: parse_configs(&bundle)?,
        owner: bundle_owner(source),
        source: source.to_string(),
    })
}

async fn has_been_reconciled(target: impl StatementTarget) -> store::Result<bool> {
    store::statement("ever_reconciled", "SELECT EXISTS (SELECT FROM reconciled)")
        .fetch_value(target)
        .await
}

/// `false` if another process has already written a bundle.
async fn write_content_in_tx(
    connection: &mut PgConnection,
    content: &InitialBundleContent,
) -> store::Result<bool> {
    reconcile::exclude_other_runs_in_tx(connection, LEDGER_TYPES_RECONCILER).await?;
    reconcile::exclude_other_runs_in_tx(connection, POSTINGS_RECONCILER).await?;
    reconcile::exclude_other_runs_in_tx(connection, SCHEDULES_RECONCILER).await?;
    reconcile::exclude_other_runs_in_tx(connection, ACTION_CONFIGS_RECONCILER).await?;
    if has_been_reconciled(&mut *connection).await? {
        return Ok(false);
    }
    let options =
        OwnershipOptions { owner: content.owner, take_over: false, allow_delete_all: false };
    reconcile_set_in_tx(
        connection,
        &OwnedObjectTransaction::for_unused_objects(content.types.clone(), options),
    )
    .await?;
    let account_types = content.types.iter().filter_map(|definition| match definition {
        LedgerTypeDefinition::Account(account) => {
            Some((account.name.clone(), KnownAccountType::Type(Box::new(account.clone()))))
        }
        LedgerTypeDefinition::Lock(_) | LedgerTypeDefinition::State(_) => None,
    });
    let (types, current) = (
        account_types.collect::<KnownAccountTypes>(),
        postings::read_posting_rules(connection).await?,
    );
    let plan = postings::plan_posting_rules(current.as_ref(), &content.rules, &types, options);
    postings::apply_plan_in_tx(connection, &plan, &content.rules, content.owner).await?;
    reconcile_set_in_tx(
        connection,
        &OwnedObjectTransaction::for_unused_objects(content.schedules.clone(), options),
    )
    .await?;
    reconcile_set_in_tx(
        connection,
        &configs::desired_config_set(content.action_configs.clone(), options),
    )
    .await?;
    let difference = AuditDifference::default()
        .with_fact("ledger_types", content.types.len())
        .with_fact("posting_rules", content.rules.len())
        .with_fact("schedules", content.schedules.len())
        .with_fact("action_configs", content.action_configs.len());
    let entry = AuditEntry::new(AuditAction::BundleInitial, "bundle", &content.source, &difference);
    record_entry(connection, &initial_actor(), &entry).await?;
    Ok(true)
}

async fn reconcile_set_in_tx(
    connection: &mut PgConnection,
    set: &impl reconcile::ReconcileTransaction,
) -> store::Result<()> {
    let result = reconcile_in_tx(set, connection).await?;
    // Stored rows that cannot be parsed here were written by a newer version.
    result.map(drop).map_err(|error| match error {
        reconcile::ReconcileError::Store(error) => error,
        _ => store::Error::Abandoned,
    })
}
