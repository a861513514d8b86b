//! The bundle: the desired state of the platform as files, each of which keeps to the schema that it names.
//!
//! A bundle that has no `schemas/` of its own goes by those in the program, and so it is with `integrations/`.

mod document;
mod git;
mod inputs;
mod read;
mod schemas;
mod sent_files;
mod source;
mod validation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{BundleDiagnostic, FieldProblem};
pub use document::BundleDocument;
pub use git::GitRevision;
use inputs::BundleEntry;
use schemas::BundleSchemas;
pub use sent_files::FilesToSend;
pub use source::{BundleSource, SentFile};

/// A bundle that was read; what is wrong with it is in it.
#[derive(Debug)]
pub struct Bundle {
    source: BundleSource,
    documents: Vec<Arc<BundleDocument>>,
    /// Schema and name of documents that do not keep to their schema.
    invalid_names: BTreeSet<(String, String)>,
    /// Whether there are files of which not even that is known.
    has_unreadable: bool,
    schemas: BundleSchemas,
    diagnostics: Vec<BundleDiagnostic>,
    /// Every file, by path.
    entries: Vec<BundleEntry>,
}

/// What a bundle knows under a name.
#[derive(Debug)]
pub enum DocumentLookup<'b> {
    /// This.
    Document(&'b BundleDocument),
    /// Something that does not keep to its schema, or perhaps a file that cannot be read: nothing can be said of it.
    Invalid,
    /// Nothing.
    Missing,
}

/// Looks for what no schema can: whether documents fit together. Contributed by whoever owns a kind of document.
pub type BundleCheck = fn(&Bundle) -> Vec<BundleDiagnostic>;

impl Bundle {
    /// Which bundle it is.
    pub fn source(&self) -> &BundleSource {
        &self.source
    }

    /// How many files there are, schemas included.
    pub fn file_count(&self) -> usize {
        self.entries.len()
    }

    /// The names of the schemas.
    pub fn schema_names(&self) -> impl Iterator<Item = &str> {
        self.schemas.names()
    }

    /// Everything that is wrong, by file and line.
    pub fn find_problems(&self, checks: &[BundleCheck]) -> Vec<BundleDiagnostic> {
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.extend(checks.iter().flat_map(|check| check(self)));
        diagnostics.sort();
        diagnostics.dedup();
        diagnostics
    }

    /// The documents of a schema that keep to it, by file. For checks; integrations ask their context.
    pub fn documents_of_schema<'b>(
        &'b self,
        schema: &str,
    ) -> impl Iterator<Item = &'b BundleDocument> + use<'b> {
        let schema = schema.to_owned();
        self.documents.iter().map(Arc::as_ref).filter(move |document| document.schema == schema)
    }

    /// The document of a schema with that `name`.
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

    /// The documents of a schema that bear the `name` of an earlier one.
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
