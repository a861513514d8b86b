//! The bundle: the platform's desired state as YAML files, each validated against
//! the schema it names.
//!
//! A bundle without a `schemas/` folder uses the built-in schemas; the
//! same holds for `integrations/`.

mod document;
mod git;
mod inputs;
mod metadata;
mod read;
mod schemas;
mod sent_files;
mod source;
mod validation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{BundleDiagnostic, FieldProblem};
pub use document::BundleDocument;
pub use git::GitRevision;
use inputs::BundleEntry;
pub(crate) use metadata::check_metadata;
pub use metadata::{METADATA_SCHEMA, ReconcilerMetadata};
use schemas::BundleSchemas;
pub use sent_files::FilesToSend;
pub use source::{BundleSource, SentFile};

/// A bundle that was read, with its validation problems.
#[derive(Debug)]
pub struct Bundle {
    source: BundleSource,
    documents: Vec<Arc<BundleDocument>>,
    /// Schema and name of documents that are invalid against their schema.
    invalid_names: BTreeSet<(String, String)>,
    /// Whether a file has an unknown schema or name, such as one with a syntax error.
    has_unreadable: bool,
    schemas: BundleSchemas,
    diagnostics: Vec<BundleDiagnostic>,
    /// All files including schemas, sorted by path.
    entries: Vec<BundleEntry>,
}

/// Result of looking up a document by schema and name.
#[derive(Debug)]
pub enum DocumentLookup<'b> {
    /// The valid document of that name.
    Document(&'b BundleDocument),
    /// The document is invalid, or may be in a file that cannot be read: its content is unknown.
    Invalid,
    /// No document of the schema has this name.
    Missing,
}

/// A check across documents, which a schema cannot express, such as references. Contributed by the
/// owner of a kind of document.
pub type BundleCheck = fn(&Bundle) -> Vec<BundleDiagnostic>;

impl Bundle {
    /// The location that the bundle was read from.
    pub fn source(&self) -> &BundleSource {
        &self.source
    }

    /// Number of files, schemas included.
    pub fn file_count(&self) -> usize {
        self.entries.len()
    }

    /// Names of all schemas, sorted.
    pub fn schema_names(&self) -> impl Iterator<Item = &str> {
        self.schemas.names()
    }

    /// All problems, including those of `checks`, sorted by file and line.
    pub fn find_problems(&self, checks: &[BundleCheck]) -> Vec<BundleDiagnostic> {
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.extend(checks.iter().flat_map(|check| check(self)));
        diagnostics.sort();
        diagnostics.dedup();
        diagnostics
    }

    /// Valid documents of a schema, sorted by file. For checks; reconcilers use their
    /// [`ReconcileContext`](crate::ReconcileContext).
    pub fn documents_of_schema<'b>(
        &'b self,
        schema: &str,
    ) -> impl Iterator<Item = &'b BundleDocument> + use<'b> {
        let schema = schema.to_owned();
        self.documents.iter().map(Arc::as_ref).filter(move |document| document.schema == schema)
    }

    /// Looks up the document of a schema by its `name`.
    pub fn find_document(&self, schema: &str, name: &str) -> DocumentLookup<'_> {
        if let Some(document) =
            self.documents_of_schema(schema).find(|document| document.name() == Some(name))
        {
            return DocumentLookup::Document(document);
        }
        let is_invalid = self.has_unreadable
            || self.invalid_names.contains(&(schema.to_owned(), name.to_owned()));
        if is_invalid { DocumentLookup::Invalid } else { DocumentLookup::Missing }
    }

    /// A diagnostic for each document of a schema that repeats the `name` of an earlier one.
    pub fn duplicate_names(&self, schema: &str) -> Vec<BundleDiagnostic> {
        let mut first_files = BTreeMap::new();
        let mut diagnostics = Vec::new();
        for document in self.documents_of_schema(schema) {
            let Some(name) = document.name() else { continue };
            match first_files.get(name) {
                None => drop(first_files.insert(name, &document.file)),
                Some(file) => {
                    let reason = format!("`{name}` is already described in {file}");
                    diagnostics.push(document.diagnostic_for(FieldProblem::new("name", reason)));
                }
            }
        }
        diagnostics
    }
}
