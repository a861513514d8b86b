//! What an integration depends on: the files of the schemas that it may ask for, these schemas, and its metadata.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::schemas::FOLDER;
use super::{Bundle, Named};
use crate::digest::{self, Digest};
use crate::metadata::{INTEGRATION_SCHEMA, Metadata};

/// A file of a bundle.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the bundle's folder.
    pub(super) path: String,
    /// Its schema, if that is known and there; schemas have none.
    pub(super) schema: Option<String>,
    pub(super) digest: Digest,
}

/// What an integration depends on, by path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inputs<'b>(BTreeMap<&'b str, &'b Digest>);

impl Bundle {
    /// The fingerprint of all its files.
    pub fn digest(&self) -> String {
        digest::hex(&digest::of_all(self.entries.iter().map(|entry| (entry.path.as_str(), &entry.digest))))
    }

    /// Whether it has the same files, all with the same content.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let files = |bundle: &Self| bundle.entries.len();
        files(self) == files(other) && self.digest() == other.digest()
    }

    pub(super) fn schema_files(&self) -> impl Iterator<Item = (&str, &Digest)> {
        let schemas = self.entries.iter().filter(|entry| entry.path.starts_with(FOLDER));
        schemas.map(|entry| (entry.path.as_str(), &entry.digest))
    }

    /// What an integration that may ask for `schemas` depends on. Of a file whose schema is not known, everything may
    /// depend.
    pub(crate) fn inputs(&self, integration: &str, schemas: &[String]) -> Inputs<'_> {
        let metadata =
            self.documents(INTEGRATION_SCHEMA).filter(|document| document.name() == Some(integration));
        let metadata: Vec<&str> = metadata.map(|document| document.path.as_str()).collect();
        let counts = |entry: &&Entry| match (&entry.schema, entry.path.strip_prefix(FOLDER)) {
            (_, Some(name)) => schemas.iter().any(|schema| schema.strip_prefix('/') == Some(name)),
            (None, None) => true,
            (Some(schema), None) => schemas.contains(schema) || metadata.contains(&entry.path.as_str()),
        };
        Inputs(self.entries.iter().filter(counts).map(|entry| (entry.path.as_str(), &entry.digest)).collect())
    }

    /// What the bundle says about an integration.
    pub(crate) fn metadata(&self, integration: &str) -> Option<Metadata> {
        match self.named(INTEGRATION_SCHEMA, integration) {
            Named::Document(document) => document.parse().ok(),
            Named::Broken | Named::Nothing => None,
        }
    }
}

impl Inputs<'_> {
    /// How many files, and their fingerprint.
    pub(crate) fn to_json(&self) -> Json {
        let sha256 = digest::hex(&digest::of_all(self.0.iter().map(|(path, digest)| (*path, *digest))));
        json!({"files": self.0.len(), "sha256": sha256})
    }

    /// Paths that only one of them has, or that differ; some of them.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let ours = self.0.iter().filter(|(path, digest)| other.0.get(*path) != Some(digest));
        let theirs = other.0.keys().filter(|path| !self.0.contains_key(*path));
        ours.map(|(path, _)| path).chain(theirs).take(20).map(|path| (*path).to_owned()).collect()
    }
}
