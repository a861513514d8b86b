//! What of a bundle is sent to a service, who judges it by schemas of his own.

use std::collections::BTreeSet;

use super::read::METADATA_FOLDER;
use super::schemas::SCHEMA_FOLDER;
use super::source::{self, BundleSourceFile};
use super::{Bundle, BundleDocument, SentFile};
use crate::metadata::{METADATA_SCHEMA, ReconcilerMetadata};

/// Files for somebody else.
#[derive(Debug)]
pub struct FilesToSend {
    /// Those that he can judge.
    pub files: Vec<SentFile>,
    /// How many he cannot, besides the schemas themselves: whose schema only this bundle has, or metadata that lists one.
    pub omitted_count: usize,
}

impl Bundle {
    /// Its files, without its schemas and what makes no sense without them: one such file, and the whole bundle is refused.
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
            // He would go by his own, and run what this bundle has no metadata for.
            return Err(format!(
                "all that is in {METADATA_FOLDER} lists schemas that only this bundle has: nothing is left to be sent"
            ));
        }
        Ok(FilesToSend { files, omitted_count: omitted_paths.len() })
    }
}

/// The schemas that a document lists, if it is metadata.
fn listed_schemas(document: &BundleDocument) -> Vec<String> {
    match document.schema == METADATA_SCHEMA {
        true => document
            .parse()
            .map(|metadata: ReconcilerMetadata| metadata.schemas)
            .unwrap_or_default(),
        false => Vec::new(),
    }
}
