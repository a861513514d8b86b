//! Files that settings name.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{SettingError, SettingSource};

/// A file that a setting names. It is opened by the command that needs it; errors name the setting.
#[derive(Debug, Clone)]
pub struct SettingFile(Arc<NamedFile>);

#[derive(Debug)]
struct NamedFile {
    setting: &'static str,
    source: SettingSource,
    path: PathBuf,
}

impl SettingFile {
    pub(crate) fn new(setting: &'static str, source: SettingSource, path: PathBuf) -> Self {
        Self(Arc::new(NamedFile { setting, source, path }))
    }

    /// What `open` makes of the file.
    pub fn open<T, E: Display>(
        &self,
        open: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, SettingError> {
        let NamedFile { setting, source, path } = &*self.0;
        open(path).map_err(|error| SettingError::Invalid {
            name: setting,
            from: source.clone(),
            reason: format!("{}: {error}", path.display()),
        })
    }
}
