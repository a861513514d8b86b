//! Files that settings name.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::{SettingError, SettingSource};

/// A file that a setting names. It is opened by the command that needs it; errors name the setting.
#[derive(Debug, Clone)]
pub struct SettingFile {
    pub(crate) name: &'static str,
    pub(crate) source: SettingSource,
    pub(crate) path: PathBuf,
}

impl SettingFile {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `open` makes of the file.
    pub fn open<T, E: Display>(
        &self,
        open: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, SettingError> {
        open(&self.path).map_err(|error| SettingError::Invalid {
            name: self.name,
            from: self.source.clone(),
            reason: format!("{}: {error}", self.path.display()),
        })
    }
}
