//! Selection of the PostgreSQL binaries: the version of an existing cluster, or the newest
//! installed version for a new one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// Directory of Debian's versioned packages.
const PACKAGES_DIR: &str = "/usr/lib/postgresql";

/// A directory with `initdb` and `postgres`, and their version in the format of `PG_VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PgBinaries {
    folder: PathBuf,
    version: String,
}

/// Directory of the binaries for the cluster in this directory, which may not exist yet.
pub(super) fn find_binaries(cluster: &Path) -> Result<PathBuf, EmbeddedError> {
    choose_binaries(cluster, find_installed_binaries())
}

fn choose_binaries(cluster: &Path, installed: Vec<PgBinaries>) -> Result<PathBuf, EmbeddedError> {
    let version = std::fs::read_to_string(cluster.join("PG_VERSION")).ok();
    let Some(version) = version.as_deref().map(str::trim) else {
        return installed
            .into_iter()
            .next()
            .map(|newest| newest.folder)
            .ok_or(EmbeddedError::NotInstalled);
    };
    let mut others = Vec::new();
    for binaries in installed {
        if binaries.version == version {
            return Ok(binaries.folder);
        }
        others.push(binaries.version);
    }
    let (cluster, version) = (cluster.to_owned(), version.to_owned());
    Err(EmbeddedError::OtherVersion { cluster, version, installed: others })
}

/// All installed binaries: the packages, newest first, then those on PATH.
fn find_installed_binaries() -> Vec<PgBinaries> {
    let packages = std::fs::read_dir(PACKAGES_DIR).into_iter().flatten().flatten();
    let mut packages: Vec<PgBinaries> = packages
        .map(|entry| PgBinaries {
            folder: entry.path().join("bin"),
            version: entry.file_name().to_string_lossy().into_owned(),
        })
        .filter(|binaries| has_all_programs(&binaries.folder))
        .collect();
    packages.sort_by_key(|binaries| std::cmp::Reverse(binaries.version.parse::<u32>().ok()));
    let path = std::env::var_os("PATH");
    let on_path =
        path.iter().flat_map(std::env::split_paths).filter(|folder| has_all_programs(folder));
    let on_path = on_path.filter(|folder| !folder.starts_with(PACKAGES_DIR)).filter_map(|folder| {
        let version = read_version(&folder)?;
        Some(PgBinaries { folder, version })
    });
    packages.extend(on_path);
    packages
}

fn has_all_programs(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// Major version: 15 for `postgres (PostgreSQL) 15.18 (Debian …)`.
fn read_version(folder: &Path) -> Option<String> {
    let output =
        Command::new(folder.join("postgres")).arg("--version").env_clear().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    Some(version.split(|c: char| !c.is_ascii_digit()).next()?.to_owned())
        .filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[&str]) -> Vec<PgBinaries> {
        let of =
            |version: &&str| PgBinaries { folder: version.into(), version: (*version).to_owned() };
        versions.iter().map(of).collect()
    }

    #[test]
    fn a_cluster_is_run_by_its_own_version_only() {
        let cluster = tempfile::tempdir().unwrap();
        let chosen = |installed: &[&str]| {
            choose_binaries(cluster.path(), versions(installed)).map_err(|e| e.to_string())
        };
        assert_eq!(chosen(&["16", "15"]), Ok("16".into()));
        assert!(chosen(&[]).unwrap_err().contains("apt-get install postgresql"));
        std::fs::write(cluster.path().join("PG_VERSION"), "15\n").unwrap();
        assert_eq!(chosen(&["16", "15"]), Ok("15".into()));
        let refused = chosen(&["17", "16"]).unwrap_err();
        assert!(refused.contains("PostgreSQL 15") && refused.contains("17, 16"), "{refused}");
        assert!(refused.contains("postgresql-15") && refused.contains("pg_upgrade"), "{refused}");
        assert!(chosen(&[]).unwrap_err().contains("postgresql-15"));
    }
}
