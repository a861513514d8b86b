//! The configuration bundle, and the runtime that brings targets to the state it describes.
//!
//! A [`Bundle`] is read and judged by its schemas; [`BundleCheck`]s, contributed by whoever owns a kind of document, look at
//! what fits together. An [`Reconciler`] plans what its target lacks (a pure function of two states) and applies the
//! plan in one transaction; the [`ReconcileRuntime`] decides what has to be run at all (a pure function, in `decide`), runs it and
//! reports. `docs/reconcile.md` has an integration as an example.

mod bundle;
mod decide;
mod desired;
mod diagnostic;
mod exclusion;
mod field;
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
pub mod yaml;

pub use bundle::{
    Bundle, BundleCheck, BundleDocument, BundleSource, DocumentLookup, FilesToSend, GitRevision,
    SentFile,
};
pub use decide::ReconcileDecision;
pub use desired::DIFF_TIMEOUT;
pub use diagnostic::{BundleDiagnostic, FieldProblem, list_names, suggest_name};
pub use exclusion::{
    exclude_other_runs_in_tx, record_reconciled_in_tx, run_exclusively, set_read_only_in_tx,
};
pub use field::{FieldPath, FieldStep};
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
