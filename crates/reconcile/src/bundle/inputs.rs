//! What an integration depends on: the files of the schemas that it may ask for, these schemas, and its metadata.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::schemas::SCHEMA_FOLDER;
use super::{Bundle, DocumentLookup};
use crate::fingerprint::{self, Fingerprint};
use crate::metadata::{METADATA_SCHEMA, ReconcilerMetadata};

/// A file of a bundle.
#[derive(Debug)]
pub(super) struct BundleEntry {
    /// Below the bundle's folder.
    pub(super) path: String,
    /// Its schema, if that is known and there; schemas have none.
    pub(super) schema: Option<String>,
    pub(super) fingerprint: Fingerprint,
}

/// What an integration depends on, by path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReconcilerInputs<'b>(BTreeMap<&'b str, &'b Fingerprint>);

impl Bundle {
    /// The fingerprint of all its files.
    pub fn fingerprint(&self) -> String {
        fingerprint::to_hex(&fingerprint::hash_named(
            self.entries.iter().map(|entry| (entry.path.as_str(), &entry.fingerprint)),
        ))
    }

    /// Whether it has the same files, all with the same content.
    pub(crate) fn has_same_files(&self, other: &Self) -> bool {
        let files = |bundle: &Self| bundle.entries.len();
        files(self) == files(other) && self.fingerprint() == other.fingerprint()
    }

    pub(super) fn schema_fingerprints(&self) -> impl Iterator<Item = (&str, &Fingerprint)> {
        let schemas = self.entries.iter().filter(|entry| entry.path.starts_with(SCHEMA_FOLDER));
        schemas.map(|entry| (entry.path.as_str(), &entry.fingerprint))
    }

    /// What an integration that may ask for `schemas` depends on. Of a file whose schema is not known, everything may
    /// depend.
    pub(crate) fn reconciler_inputs(
        &self,
        reconciler: &str,
        schemas: &[String],
    ) -> ReconcilerInputs<'_> {
        let metadata = self
            .documents_of_schema(METADATA_SCHEMA)
            .filter(|document| document.name() == Some(reconciler));
        let metadata: Vec<&str> = metadata.map(|document| document.path.as_str()).collect();
        let is_input =
            |entry: &&BundleEntry| match (&entry.schema, entry.path.strip_prefix(SCHEMA_FOLDER)) {
                (_, Some(name)) => {
                    schemas.iter().any(|schema| schema.strip_prefix('/') == Some(name))
                }
                (None, None) => true,
                (Some(schema), None) => {
                    schemas.contains(schema) || metadata.contains(&entry.path.as_str())
                }
            };
        ReconcilerInputs(
            self.entries
                .iter()
                .filter(is_input)
                .map(|entry| (entry.path.as_str(), &entry.fingerprint))
                .collect(),
        )
    }

    /// What the bundle says about an integration.
    pub(crate) fn reconciler_metadata(&self, reconciler: &str) -> Option<ReconcilerMetadata> {
        match self.find_document(METADATA_SCHEMA, reconciler) {
            DocumentLookup::Document(document) => document.parse().ok(),
            DocumentLookup::Invalid | DocumentLookup::Missing => None,
        }
    }
}

impl ReconcilerInputs<'_> {
    /// How many files, and their fingerprint.
    pub(crate) fn to_json(&self) -> Json {
        let sha256 = fingerprint::to_hex(&fingerprint::hash_named(
            self.0.iter().map(|(path, digest)| (*path, *digest)),
        ));
        json!({"files": self.0.len(), "sha256": sha256})
    }

    /// Paths that only one of them has, or that differ; some of them.
    pub(crate) fn changed_paths(&self, other: &Self) -> Vec<String> {
        let ours = self.0.iter().filter(|(path, digest)| other.0.get(*path) != Some(digest));
        let theirs = other.0.keys().filter(|path| !self.0.contains_key(*path));
        ours.map(|(path, _)| path).chain(theirs).take(20).map(|path| (*path).to_owned()).collect()
    }
}
