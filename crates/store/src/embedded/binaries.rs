//! Which of the machine's PostgreSQL servers runs a cluster: that of its own version, or for a new one the newest.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// Where Debian's packages put each version.
const INSTALLED: &str = "/usr/lib/postgresql";

/// A folder with `initdb` and `postgres`, and their version as `PG_VERSION` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binaries {
    folder: PathBuf,
    version: String,
}

/// The folder with `initdb` and `postgres` for the cluster in this folder, which may not be there yet.
pub(super) fn find_binaries(cluster: &Path) -> Result<PathBuf, EmbeddedError> {
    choose(cluster, installed())
}

fn choose(cluster: &Path, installed: Vec<Binaries>) -> Result<PathBuf, EmbeddedError> {
    let version = std::fs::read_to_string(cluster.join("PG_VERSION")).ok();
    let Some(version) = version.as_deref().map(str::trim) else {
        return installed.into_iter().next().map(|newest| newest.folder).ok_or(EmbeddedError::NotInstalled);
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

/// All there are, the newest first; those on PATH after the packages'.
fn installed() -> Vec<Binaries> {
    let packages = std::fs::read_dir(INSTALLED).into_iter().flatten().flatten();
    let mut packages: Vec<Binaries> = packages
        .map(|entry| Binaries {
            folder: entry.path().join("bin"),
            version: entry.file_name().to_string_lossy().into_owned(),
        })
        .filter(|binaries| is_complete(&binaries.folder))
        .collect();
    packages.sort_by_key(|binaries| std::cmp::Reverse(binaries.version.parse::<u32>().ok()));
    let path = std::env::var_os("PATH");
    let on_path = path.iter().flat_map(std::env::split_paths).filter(|folder| is_complete(folder));
    let on_path = on_path.filter(|folder| !folder.starts_with(INSTALLED)).filter_map(|folder| {
        let version = version_of(&folder)?;
        Some(Binaries { folder, version })
    });
    packages.extend(on_path);
    packages
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` is of version 15.
fn version_of(folder: &Path) -> Option<String> {
    let said = Command::new(folder.join("postgres")).arg("--version").env_clear().output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let version = said.split_whitespace().nth(2)?;
    Some(version.split(|c: char| !c.is_ascii_digit()).next()?.to_owned())
        .filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(versions: &[&str]) -> Vec<Binaries> {
        let of = |version: &&str| Binaries { folder: version.into(), version: (*version).to_owned() };
        versions.iter().map(of).collect()
    }

    #[test]
    fn a_cluster_is_run_by_its_own_version_only() {
        let cluster = tempfile::tempdir().unwrap();
        let chosen =
            |installed: &[&str]| choose(cluster.path(), versions(installed)).map_err(|e| e.to_string());
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
