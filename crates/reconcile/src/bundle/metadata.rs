//! Integration metadata: the bundle's `integrations/*.yaml`.

use serde::Deserialize;
use yaml::{FieldPath, list_names, suggest_name};

use super::Bundle;
use crate::diagnostic::{BundleDiagnostic, FieldProblem};

/// Schema name of metadata documents.
pub const METADATA_SCHEMA: &str = "/app/integration-1.yml";

/// Metadata of one reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcilerMetadata {
    /// Name of a registered reconciler.
    pub name: String,
    /// Free text for operators; not interpreted.
    #[serde(default)]
    pub description: String,
    /// Schemas whose documents the reconciler may read.
    pub schemas: Vec<String>,
}

/// Checks that each metadata file names a registered reconciler and existing schemas.
pub(crate) fn check_metadata(bundle: &Bundle, reconciler_names: &[&str]) -> Vec<BundleDiagnostic> {
    let mut diagnostics = bundle.duplicate_names(METADATA_SCHEMA);
    for document in bundle.documents_of_schema(METADATA_SCHEMA) {
        let metadata: ReconcilerMetadata = match document.parse() {
            Ok(metadata) => metadata,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                continue;
            }
        };
        if !reconciler_names.contains(&metadata.name.as_str()) {
            let near = suggest_name(&metadata.name, reconciler_names.iter().copied());
            let known = list_names(reconciler_names.iter().copied());
            let reason =
                format!("there is no integration `{}`{near} (known: {known})", metadata.name);
            diagnostics.push(document.diagnostic_for(FieldProblem::new("name", reason)));
        }
        for (index, schema) in metadata.schemas.iter().enumerate() {
            if !bundle.schema_names().any(|known| known == schema) {
                let near = suggest_name(schema, bundle.schema_names());
                let known = list_names(bundle.schema_names());
                let field = FieldPath::from("schemas").with_index(index);
                let reason = format!("there is no schema `{schema}`{near} (known: {known})");
                diagnostics.push(document.diagnostic_for(FieldProblem { field, reason }));
            }
        }
    }
    diagnostics
}
