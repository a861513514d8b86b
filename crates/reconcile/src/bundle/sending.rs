//! What of a bundle is sent to a service, who judges it by schemas of his own.

use std::collections::BTreeSet;

use super::read::INTEGRATIONS;
use super::schemas::FOLDER;
use super::source::{self, Found};
use super::{Bundle, Document, SentFile};
use crate::metadata::{INTEGRATION_SCHEMA, Metadata};

/// Files for somebody else.
#[derive(Debug)]
pub struct ToSend {
    /// Those that he can judge.
    pub files: Vec<SentFile>,
    /// How many he cannot, besides the schemas themselves: whose schema only this bundle has, or metadata that lists one.
    pub left_out: usize,
}

impl Bundle {
    /// Its files, without its schemas and what makes no sense without them: one such file, and the whole bundle is refused.
    pub fn to_send(&self) -> Result<ToSend, String> {
        let own: BTreeSet<&str> = {
            let builtin: BTreeSet<String> = source::builtin_schemas().collect();
            self.schemas().filter(|name| !builtin.contains(*name)).collect()
        };
        let needs_own = |document: &&Document| {
            own.contains(document.schema.as_str())
                || listed(document).iter().any(|schema| own.contains(schema.as_str()))
        };
        let documents = self.documents.iter().map(AsRef::as_ref);
        let without: BTreeSet<&str> =
            documents.filter(needs_own).map(|document| document.path.as_str()).collect();
        let send = |file: Found| match file.text {
            Ok(text) => Ok(SentFile { path: file.path, text }),
            Err(reason) => Err(format!("{} {reason}", file.label)),
        };
        let goes = |file: &Found| !file.path.starts_with(FOLDER) && !without.contains(file.path.as_str());
        let files = self.place.files()?.into_iter().filter(goes).map(send);
        let files: Vec<SentFile> = files.collect::<Result<_, _>>()?;
        let is_metadata = |path: &str| path.starts_with(INTEGRATIONS);
        if without.iter().any(|path| is_metadata(path)) && !files.iter().any(|file| is_metadata(&file.path)) {
            // He would go by his own, and run what this bundle has no metadata for.
            return Err(format!(
                "all that is in {INTEGRATIONS} lists schemas that only this bundle has: nothing is left to be sent"
            ));
        }
        Ok(ToSend { files, left_out: without.len() })
    }
}

/// The schemas that a document lists, if it is metadata.
fn listed(document: &Document) -> Vec<String> {
    match document.schema == INTEGRATION_SCHEMA {
        true => document.parse().map(|metadata: Metadata| metadata.schemas).unwrap_or_default(),
        false => Vec::new(),
    }
}
