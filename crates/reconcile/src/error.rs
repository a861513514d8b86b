//! Error of a reconciler run.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diagnostic::BundleDiagnostic;

/// Error of a reconciler run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReconcileError {
    /// The reconciler requested a schema that its metadata does not list.
    #[error(
        "the integration {reconciler} asked for the schema {schema}, which its metadata does not list ({listed})"
    )]
    UnlistedSchema {
        /// Name of the reconciler.
        reconciler: &'static str,
        /// The requested schema.
        schema: String,
        /// The schemas listed in the metadata.
        listed: String,
    },
    /// A document is valid against its schema, but not deserializable.
    #[error("{0}")]
    InvalidDocument(BundleDiagnostic),
    /// The changes differ from the approved plan.
    #[error("what would be done is not what was approved: {0}; make a new plan")]
    StalePlan(String),
    /// Database error.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Any other error.
    #[error("{0}")]
    Failed(String),
}

impl Serialize for ReconcileError {
    /// Serialized as its message.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReconcileError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Failed)
    }
}
