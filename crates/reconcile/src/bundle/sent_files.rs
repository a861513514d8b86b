//! The part of a bundle that is sent to a service, which validates it against its built-in schemas.

use std::collections::BTreeSet;

use super::read::METADATA_FOLDER;
use super::schemas::SCHEMA_FOLDER;
use super::source::{self, BundleSourceFile};
use super::{Bundle, BundleDocument, SentFile};
use crate::metadata::{METADATA_SCHEMA, ReconcilerMetadata};

/// Files to send to a service.
#[derive(Debug)]
pub struct FilesToSend {
    /// Files that the receiver can validate with its built-in schemas.
    pub files: Vec<SentFile>,
    /// Number of omitted files (schemas not counted): their schema is not built in, or they are
    /// metadata that lists such a schema.
    pub omitted_count: usize,
}

impl Bundle {
    /// The bundle's files without schemas and without files that depend on schemas that are not
    /// built in: the receiver would reject the whole bundle for one such file.
    pub fn files_to_send(&self) -> Result<FilesToSend, String> {
        let own_schemas: BTreeSet<&str> = {
            let builtin: BTreeSet<String> = source::builtin_schema_names().collect();
            self.schema_names().filter(|name| !builtin.contains(*name)).collect()
        };
        let needs_own_schema = |document: &&BundleDocument| {
            own_schemas.contains(document.schema.as_str())
                || listed_schemas(document)
                    .iter()
                    .any(|schema| own_schemas.contains(schema.as_str()))
        };
        let documents = self.documents.iter().map(AsRef::as_ref);
        let omitted_paths: BTreeSet<&str> =
            documents.filter(needs_own_schema).map(|document| document.path.as_str()).collect();
        let to_sent_file = |file: BundleSourceFile| match file.text {
            Ok(text) => Ok(SentFile { path: file.path, text }),
            Err(reason) => Err(format!("{} {reason}", file.label)),
        };
        let is_sent = |file: &BundleSourceFile| {
            !file.path.starts_with(SCHEMA_FOLDER) && !omitted_paths.contains(file.path.as_str())
        };
        let files = self.source.read_files()?.into_iter().filter(is_sent).map(to_sent_file);
        let files: Vec<SentFile> = files.collect::<Result<_, _>>()?;
        let is_metadata = |path: &str| path.starts_with(METADATA_FOLDER);
        if omitted_paths.iter().any(|path| is_metadata(path))
            && !files.iter().any(|file| is_metadata(&file.path))
        {
            // Without metadata the receiver would use its built-in metadata and run integrations
            // that this bundle does not configure.
            return Err(format!(
                "all that is in {METADATA_FOLDER} lists schemas that only this bundle has: nothing is left to be sent"
            ));
        }
        Ok(FilesToSend { files, omitted_count: omitted_paths.len() })
    }
}

/// The schemas that a document lists, if it is integration metadata.
fn listed_schemas(document: &BundleDocument) -> Vec<String> {
    match document.schema == METADATA_SCHEMA {
        true => document
            .parse()
            .map(|metadata: ReconcilerMetadata| metadata.schemas)
            .unwrap_or_default(),
        false => Vec::new(),
    }
}
