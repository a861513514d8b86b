//! Inputs of a reconciler: its metadata, the schemas it declares, and the files of these schemas.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::metadata::{METADATA_SCHEMA, ReconcilerMetadata};
use super::schemas::SCHEMA_FOLDER;
use super::{Bundle, DocumentLookup};
use crate::fingerprint::{self, Fingerprint};

/// A file of a bundle, as its fingerprint shows it.
#[derive(Debug)]
pub(super) struct BundleEntry {
    /// Path relative to the bundle's folder.
    pub(super) path: String,
    /// Schema name, if the file names a known schema; `None` for schema files.
    pub(super) schema: Option<String>,
    pub(super) fingerprint: Fingerprint,
}

/// Fingerprints of the input files by path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReconcilerInputs<'b>(BTreeMap<&'b str, &'b Fingerprint>);

impl Bundle {
    /// Fingerprint over the paths and contents of all files.
    pub fn fingerprint(&self) -> String {
        hex::encode(fingerprint::hash_named(
            self.entries.iter().map(|entry| (entry.path.as_str(), &entry.fingerprint)),
        ))
    }

    /// Whether both bundles have the same paths with the same contents.
    pub(crate) fn has_same_files(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len() && self.fingerprint() == other.fingerprint()
    }

    pub(super) fn schema_fingerprints(&self) -> impl Iterator<Item = (&str, &Fingerprint)> {
        let schemas = self.entries.iter().filter(|entry| entry.path.starts_with(SCHEMA_FOLDER));
        schemas.map(|entry| (entry.path.as_str(), &entry.fingerprint))
    }

    /// Inputs of a reconciler that declares `schemas`. Files of unknown schema are
    /// inputs of every reconciler.
    pub(crate) fn reconciler_inputs(
        &self,
        reconciler: &str,
        schemas: &[String],
    ) -> ReconcilerInputs<'_> {
        let metadata = self
            .documents_of_schema(METADATA_SCHEMA)
            .filter(|document| document.name() == Some(reconciler));
        let metadata: Vec<&str> = metadata.map(|document| document.path.as_str()).collect();
        let mut inputs = BTreeMap::new();
        for entry in &self.entries {
            let path = entry.path.as_str();
            let is_input = match (&entry.schema, path.strip_prefix(SCHEMA_FOLDER)) {
                (_, Some(name)) => {
                    schemas.iter().any(|schema| schema.strip_prefix('/') == Some(name))
                }
                (None, None) => true,
                (Some(schema), None) => schemas.contains(schema) || metadata.contains(&path),
            };
            if is_input {
                inputs.insert(path, &entry.fingerprint);
            }
        }
        ReconcilerInputs(inputs)
    }

    /// The reconciler's metadata; `None` if it is missing or invalid.
    pub(crate) fn reconciler_metadata(&self, reconciler: &str) -> Option<ReconcilerMetadata> {
        match self.find_document(METADATA_SCHEMA, reconciler) {
            DocumentLookup::Document(document) => document.parse().ok(),
            DocumentLookup::Invalid | DocumentLookup::Missing => None,
        }
    }
}

impl ReconcilerInputs<'_> {
    /// The number of files and their combined fingerprint.
    pub(crate) fn to_json(&self) -> Json {
        let sha256 = hex::encode(fingerprint::hash_named(
            self.0.iter().map(|(path, digest)| (*path, *digest)),
        ));
        json!({"files": self.0.len(), "sha256": sha256})
    }

    /// Paths that differ or exist on one side only; at most 20.
    pub(crate) fn changed_paths(&self, other: &Self) -> Vec<String> {
        let ours = self.0.iter().filter(|(path, digest)| other.0.get(*path) != Some(digest));
        let theirs = other.0.keys().filter(|path| !self.0.contains_key(*path));
        ours.map(|(path, _)| path).chain(theirs).take(20).map(|path| (*path).to_owned()).collect()
    }
}
