//! Temporary bundle folders for tests.

use std::fs;
use std::sync::LazyLock;

use reconcile::{Bundle, BundleDiagnostic, BundleSource, find_bundle_problems};
use tempfile::TempDir;

/// The integrations that the built-in bundle has metadata of.
pub fn integrations() -> Vec<&'static str> {
    static BUILTIN: LazyLock<Bundle> =
        LazyLock::new(|| Bundle::read(BundleSource::Builtin).unwrap());
    BUILTIN
        .documents_of_schema(reconcile::METADATA_SCHEMA)
        .map(|document| document.name().unwrap())
        .collect()
}

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
        Bundle::read(BundleSource::Folder(self.path().to_owned())).unwrap()
    }

    pub fn problems(&self) -> Vec<BundleDiagnostic> {
        find_bundle_problems(&self.bundle(), &[], &integrations())
    }

    /// Problems as `file:line: field: reason`; the file is relative to the folder.
    pub fn told(&self) -> Vec<String> {
        let prefix = format!("{}/", self.path().display());
        self.problems().iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}
