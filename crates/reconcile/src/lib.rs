//! The configuration bundle, and the runtime that brings targets to the state it describes.
//!
//! A [`Bundle`] is read and judged by its schemas; [`Check`]s, contributed by whoever owns a kind of document, look at
//! what fits together. An [`Integration`] plans what its target lacks (a pure function of two states) and applies the
//! plan in one transaction; the [`Runtime`] decides what has to be run at all (a pure function, in `decide`), runs it and
//! reports. `docs/reconcile.md` has an integration as an example.

mod bundle;
mod decide;
mod desired;
mod diagnostic;
mod digest;
mod exclusion;
mod field;
mod integration;
mod metadata;
pub mod owned;
mod owner;
pub mod plan;
mod report;
mod runtime;
mod saved;
mod transaction;
pub mod yaml;

pub use bundle::{Bundle, Check, Document, Named, Place, Revision, SentFile, ToSend};
pub use decide::Decision;
pub use desired::DIFF_LIMIT;
pub use diagnostic::{Diagnostic, Problem, listed, suggestion};
pub use exclusion::{exclude_others_in_tx, excluding_others, note_reconciled_in_tx, read_only_in_tx};
pub use field::{Field, Step};
pub use integration::{Context, Integration, NoArguments, RunError, ShardConfig};
pub use metadata::{INTEGRATION_SCHEMA, Metadata};
pub use owner::Owner;
pub use plan::Plan;
pub use report::{Outcome, Report, ShardOutcome, ShardStatus};
pub use runtime::{
    Decided, Narrowing, POOL_SIZE, Pace, Progress, Request, RequestError, Runtime, ShardRun, SkippedShard,
    Work, problems,
};
pub use saved::{PLAN_VERSION, SavedPlan};
pub use transaction::{Attempt, Transaction, carry_out};
