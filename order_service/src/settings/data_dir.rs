//! `--data-dir` and its default.

use std::path::{Path, PathBuf};

use settings::{ResolvedSettings, Setting, SettingError};

/// Its default is set by [`with_default_data_dir`].
pub(super) const DATA_DIR_SETTING: Setting = Setting::new(
    "data-dir",
    "DIR",
    "Where the embedded PostgreSQL lives [default /var/lib/order_service as root, else $XDG_DATA_HOME/order_service]",
);

/// Data directory; `None` if neither set nor derivable, which fails only on use.
#[derive(Debug, Clone)]
pub struct DataDir(Option<PathBuf>);

impl DataDir {
    /// Reads resolved settings; cannot fail for a missing value.
    pub fn new(resolved: &ResolvedSettings) -> Result<Self, SettingError> {
        Ok(Self(resolved.get_optional::<String>("data-dir")?.map(PathBuf::from)))
    }

    /// Path of the directory, or an error that says what to set.
    pub fn path(&self) -> anyhow::Result<&Path> {
        self.0.as_deref().ok_or_else(|| {
            anyhow::anyhow!(
                "neither HOME nor XDG_DATA_HOME says where data may be kept: set one of them, or give --data-dir"
            )
        })
    }
}

/// Adds the default of `--data-dir`, unless it is set.
pub fn with_default_data_dir(mut resolved: ResolvedSettings) -> ResolvedSettings {
    let dir = if nix::unistd::geteuid().is_root() {
        Some(PathBuf::from("/var/lib/order_service"))
    } else {
        default_data_dir(|name| std::env::var_os(name).map(PathBuf::from))
    };
    if let Some(dir) = dir {
        resolved.set_default(&DATA_DIR_SETTING, dir.to_string_lossy().into_owned());
    }
    resolved
}

/// Ignores relative paths: they would depend on the working directory.
fn default_data_dir(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(data) = variable("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Some(data.join("order_service"));
    }
    let home = variable("HOME").filter(|path| path.is_absolute())?;
    Some(home.join(".local/share").join("order_service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_below_an_absolute_home() {
        let default = |data: Option<&str>, home: Option<&str>| {
            default_data_dir(|name| if name == "HOME" { home } else { data }.map(PathBuf::from))
        };
        assert_eq!(default(Some("/data"), Some("/home/me")), Some("/data/order_service".into()));
        let below_home = Some("/home/me/.local/share/order_service".into());
        for data in [None, Some(""), Some("relative")] {
            assert_eq!(default(data, Some("/home/me")), below_home);
            for home in [None, Some(""), Some("relative")] {
                assert_eq!(default(data, home), None);
            }
        }
        assert!(DataDir(None).path().unwrap_err().to_string().contains("--data-dir"));
    }
}
