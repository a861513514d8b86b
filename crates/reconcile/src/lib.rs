//! Reconciliation: a configuration bundle holds the desired state, reconcilers
//! bring targets to it.
//!
//! A [`Bundle`] is validated against its schemas; [`BundleCheck`]s, contributed by the owner of
//! each kind of document, validate references between documents. A [`Reconciler`] plans the
//! difference between stored and desired state (a pure function) and applies the plan in one
//! transaction. The [`ReconcileRuntime`] decides which reconcilers and shards to run (a pure
//! function, in `decide`), runs them and reports. `docs/reconcile.md` has an example reconciler.

mod audited;
mod bundle;
mod decide;
mod decided_runs;
mod desired;
mod diagnostic;
mod error;
mod exclusion;
mod fingerprint;
pub mod owned;
mod owner;
pub mod plan;
mod reconciler;
mod report;
mod request;
mod runtime;
mod saved_plan;
mod transaction;

pub use audited::audit_entries;
pub use bundle::{
    Bundle, BundleCheck, BundleDocument, BundleSource, DocumentLookup, FilesToSend, GitRevision,
    METADATA_SCHEMA, ReconcilerMetadata, SentFile,
};
pub use decide::ReconcileDecision;
pub use decided_runs::{DecidedRuns, ReconcileShardRun, ReconcilerRun, SkippedShard};
pub use desired::DIFF_TIMEOUT;
pub use diagnostic::{BundleDiagnostic, FieldProblem};
pub use error::ReconcileError;
pub use exclusion::{
    MAX_EXCLUSIVE_WORK, exclude_other_runs_in_tx, record_reconciled_in_tx, run_exclusively,
    set_read_only_in_tx,
};
pub use owner::{ObjectOwner, OwnershipOptions};
pub use plan::ReconcilePlan;
pub use reconciler::{DesiredShardConfig, NoArguments, ReconcileContext, Reconciler};
pub use report::{ReconcileOutcome, ReconcileReport, ReconcileShardOutcome, ReconcileShardStatus};
pub use request::{ReconcileRequest, ReconcileRequestError};
pub use runtime::{
    DEFAULT_POOL_SIZE, ProgressCallback, ReconcileNarrowing, ReconcileOptions, ReconcileRuntime,
    find_bundle_problems,
};
pub use saved_plan::{SAVED_PLAN_VERSION, SavedPlan};
pub use transaction::{ReconcileTransaction, ReconcileTxResult, run_transaction};
