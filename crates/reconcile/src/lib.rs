//! Reconciliation: a configuration bundle holds the desired state, integrations
//! bring targets to it.
//!
//! A [`Bundle`] is validated against its schemas; [`BundleCheck`]s, contributed by the owner of
//! each kind of document, validate references between documents. A [`Reconciler`] plans the
//! difference between stored and desired state (a pure function) and applies the plan in one
//! transaction. The [`ReconcileRuntime`] decides which integrations and shards to run (a pure
//! function, in `decide`), runs them and reports. `docs/reconcile.md` has an example integration.

mod bundle;
mod decide;
mod desired;
mod diagnostic;
mod exclusion;
mod fingerprint;
mod metadata;
pub mod owned;
mod owner;
pub mod plan;
mod reconciler;
mod report;
mod runtime;
mod saved_plan;
mod transaction;

pub use bundle::{
    Bundle, BundleCheck, BundleDocument, BundleSource, DocumentLookup, FilesToSend, GitRevision,
    SentFile,
};
pub use decide::ReconcileDecision;
pub use desired::DIFF_TIMEOUT;
pub use diagnostic::{BundleDiagnostic, FieldProblem};
pub use exclusion::{
    exclude_other_runs_in_tx, record_reconciled_in_tx, run_exclusively, set_read_only_in_tx,
};
pub use metadata::{METADATA_SCHEMA, ReconcilerMetadata};
pub use owner::ObjectOwner;
pub use plan::ReconcilePlan;
pub use reconciler::{
    DesiredShardConfig, NoArguments, ReconcileContext, ReconcileError, Reconciler,
};
pub use report::{ReconcileOutcome, ReconcileReport, ReconcileShardOutcome, ReconcileShardStatus};
pub use runtime::{
    DEFAULT_POOL_SIZE, DecidedRuns, ProgressCallback, ReconcileNarrowing, ReconcileOptions,
    ReconcileRequest, ReconcileRequestError, ReconcileRuntime, ReconcileShardRun, ReconcilerRun,
    SkippedShard, find_bundle_problems,
};
pub use saved_plan::{SAVED_PLAN_VERSION, SavedPlan};
pub use transaction::{ReconcileTransaction, ReconcileTxResult, run_transaction};
