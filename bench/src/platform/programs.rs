//! Locations of the programs under test: next to this one, or in `--bin-dir`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Paths of the release builds.
#[derive(Debug, Clone)]
pub struct ProgramPaths {
    /// `order_service`
    pub order_service: PathBuf,
    /// `data_manager`
    pub data_manager: PathBuf,
    /// This program, which also runs the limits.
    pub bench: PathBuf,
}

impl ProgramPaths {
    /// Finds the programs; fails if one is missing.
    pub fn find(bin_dir: Option<&Path>) -> anyhow::Result<Self> {
        let bench = std::env::current_exe().context("where this program is")?;
        let dir = match bin_dir {
            Some(dir) => {
                dir.canonicalize().with_context(|| format!("--bin-dir {}", dir.display()))?
            }
            None => bench.parent().context("this program lies in no folder")?.to_owned(),
        };
        let program = |name: &str| {
            let path = dir.join(name);
            anyhow::ensure!(
                path.is_file(),
                "{} is missing: cargo build --profile dist --workspace, or say where it is with --bin-dir",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            order_service: program("order_service")?,
            data_manager: program("data_manager")?,
            bench,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = ProgramPaths::find(Some(empty.path())).unwrap_err().to_string();
        assert!(error.contains("order_service is missing"), "{error}");
    }
}
