//! The bundle: the desired state of the platform as files, each of which keeps to the schema that it names.
//!
//! A bundle that has no `schemas/` of its own goes by those in the program, and so it is with `integrations/`.

mod document;
mod git;
mod inputs;
mod judge;
mod read;
mod schemas;
mod sending;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{Diagnostic, Problem};
pub use document::Document;
pub use git::Revision;
use inputs::Entry;
use schemas::Schemas;
pub use sending::ToSend;
pub use source::{Place, SentFile};

/// A bundle that was read; what is wrong with it is in it.
#[derive(Debug)]
pub struct Bundle {
    place: Place,
    documents: Vec<Arc<Document>>,
    /// Schema and name of documents that do not keep to their schema.
    broken: BTreeSet<(String, String)>,
    /// Whether there are files of which not even that is known.
    unreadable: bool,
    schemas: Schemas,
    wrong: Vec<Diagnostic>,
    /// Every file, by path.
    entries: Vec<Entry>,
}

/// What a bundle knows under a name.
#[derive(Debug)]
pub enum Named<'b> {
    /// This.
    Document(&'b Document),
    /// Something that does not keep to its schema, or perhaps a file that cannot be read: nothing can be said of it.
    Broken,
    /// Nothing.
    Nothing,
}

/// Looks for what no schema can: whether documents fit together. Contributed by whoever owns a kind of document.
pub type Check = fn(&Bundle) -> Vec<Diagnostic>;

impl Bundle {
    /// Which bundle it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many files there are, schemas included.
    pub fn files(&self) -> usize {
        self.entries.len()
    }

    /// The names of the schemas.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.names()
    }

    /// Everything that is wrong, by file and line.
    pub fn problems(&self, checks: &[Check]) -> Vec<Diagnostic> {
        let mut wrong = self.wrong.clone();
        wrong.extend(checks.iter().flat_map(|check| check(self)));
        wrong.sort();
        wrong.dedup();
        wrong
    }

    /// The documents of a schema that keep to it, by file. For checks; integrations ask their context.
    pub fn documents<'b>(&'b self, schema: &str) -> impl Iterator<Item = &'b Document> + use<'b> {
        let schema = schema.to_owned();
        self.documents.iter().map(Arc::as_ref).filter(move |document| document.schema == schema)
    }

    /// The document of a schema with that `name`.
    pub fn named(&self, schema: &str, name: &str) -> Named<'_> {
        if let Some(document) = self.documents(schema).find(|document| document.name() == Some(name)) {
            return Named::Document(document);
        }
        let broken = self.unreadable || self.broken.contains(&(schema.to_owned(), name.to_owned()));
        if broken { Named::Broken } else { Named::Nothing }
    }

    /// The documents of a schema that bear the `name` of an earlier one.
    pub fn same_names(&self, schema: &str) -> Vec<Diagnostic> {
        let mut first = BTreeMap::new();
        let mut wrong = Vec::new();
        for document in self.documents(schema) {
            let Some(name) = document.name() else { continue };
            match first.get(name) {
                None => drop(first.insert(name, &document.file)),
                Some(file) => {
                    let reason = format!("`{name}` is already described in {file}");
                    wrong.push(document.diagnostic(Problem::new("name", reason)));
                }
            }
        }
        wrong
    }
}
