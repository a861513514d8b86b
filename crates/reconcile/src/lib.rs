//! The configuration bundle, and the runtime that brings targets to the state it describes.
//!
//! A [`Bundle`] is read and judged by its schemas; [`Check`]s, contributed by whoever owns a kind of document, look at
//! what fits together. An [`Integration`] plans what its target lacks (a pure function of two states) and applies the
//! plan in one transaction; the [`Runtime`] runs them and reports.

mod bundle;
mod diagnostic;
mod exclusion;
mod field;
mod integration;
mod metadata;
mod owner;
pub mod plan;
mod report;
mod runtime;
pub mod yaml;

pub use bundle::{Bundle, Check, Document, Named, Place};
pub use diagnostic::{Diagnostic, Problem, listed, suggestion};
pub use exclusion::{exclude_others_in_tx, note_reconciled_in_tx, read_only_in_tx};
pub use field::{Field, Step};
pub use integration::{Context, Integration, NoArguments, RunError, ShardConfig};
pub use metadata::{INTEGRATION_SCHEMA, Metadata};
pub use owner::Owner;
pub use plan::Plan;
pub use report::{Outcome, Report};
pub use runtime::{Request, RequestError, Runtime, problems};
