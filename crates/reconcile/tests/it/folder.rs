//! Bundles made for the test.

use std::fs;

use reconcile::{Bundle, Diagnostic, Place, problems};
use tempfile::TempDir;

pub struct Folder(TempDir);

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| folder.put(path, text));
        folder
    }

    pub fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub fn bundle(&self) -> Bundle {
        Bundle::read(Place::Folder(self.path().to_owned())).unwrap()
    }

    pub fn problems(&self) -> Vec<Diagnostic> {
        problems(&self.bundle(), &[], &["ledger-types", "postings", "schedules", "action-configs"])
    }

    /// `file:line: field: reason`, the file below the folder.
    pub fn told(&self) -> Vec<String> {
        let prefix = format!("{}/", self.path().display());
        self.problems().iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}
