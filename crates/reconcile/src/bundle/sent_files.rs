//! The part of a bundle that is sent to a service, which validates it against its built-in schemas.

use std::collections::BTreeSet;

use super::metadata::{METADATA_SCHEMA, ReconcilerMetadata};
use super::read::METADATA_FOLDER;
use super::schemas::SCHEMA_FOLDER;
use super::source;
use super::{Bundle, BundleDocument, SentFile};

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
        let mut omitted_paths: BTreeSet<&str> = BTreeSet::new();
        for document in &self.documents {
            if depends_on_schemas(document, &own_schemas) {
                omitted_paths.insert(&document.path);
            }
        }
        let mut files = Vec::new();
        for file in self.source.read_files()? {
            if file.path.starts_with(SCHEMA_FOLDER) || omitted_paths.contains(file.path.as_str()) {
                continue;
            }
            match file.text {
                Ok(text) => files.push(SentFile { path: file.path, text }),
                Err(reason) => return Err(format!("{} {reason}", file.label)),
            }
        }
        if omitted_paths.iter().any(|path| path.starts_with(METADATA_FOLDER))
            && !files.iter().any(|file| file.path.starts_with(METADATA_FOLDER))
        {
            // Without metadata the receiver would use its built-in metadata and run reconcilers
            // that this bundle does not configure.
            return Err(format!(
                "all that is in {METADATA_FOLDER} lists schemas that only this bundle has: nothing is left to be sent"
            ));
        }
        Ok(FilesToSend { files, omitted_count: omitted_paths.len() })
    }
}

/// Whether the document has one of these schemas, or lists one as reconciler metadata.
fn depends_on_schemas(document: &BundleDocument, schemas: &BTreeSet<&str>) -> bool {
    schemas.contains(document.schema.as_str())
        || listed_schemas(document).iter().any(|schema| schemas.contains(schema.as_str()))
}

/// The schemas that a document lists, if it is reconciler metadata.
fn listed_schemas(document: &BundleDocument) -> Vec<String> {
    match document.schema == METADATA_SCHEMA {
        true => document
            .parse()
            .map(|metadata: ReconcilerMetadata| metadata.schemas)
            .unwrap_or_default(),
        false => Vec::new(),
    }
}
