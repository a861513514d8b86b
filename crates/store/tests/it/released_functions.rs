//! Hazard: two programs of one version have different SQL functions, and replace each other's.
//!
//! `sql/released.txt` has a line for each released version and role: version, role, and the SHA-256 over all functions.
//! `scripts/releases.txt` names the released versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

const ROLES: [&str; 2] = ["control", "shard"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// SHA-256 over name and content of each file, in the order of the names.
fn functions_hash(role: &str) -> String {
    let folder = std::fs::read_dir(root().join("sql").join(role)).unwrap();
    let files: BTreeMap<String, Vec<u8>> = folder
        .map(|file| file.unwrap())
        .map(|file| {
            let content = std::fs::read(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), content)
        })
        .collect();
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(format!("{name} {}\n", content.len()));
        hash.update(content);
    }
    hex::encode(hash.finalize())
}

fn lines(path: &str) -> Vec<String> {
    let list = std::fs::read_to_string(root().join(path)).unwrap();
    list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn a_released_version_has_the_functions_of_its_release() {
    let mut released = BTreeMap::new();
    for line in lines("sql/released.txt") {
        let parts: Vec<&str> = line.split(' ').collect();
        let &[version, role, hash] = parts.as_slice() else { panic!("{line}") };
        released.insert((version.to_owned(), role.to_owned()), hash.to_owned());
    }
    let present = env!("CARGO_PKG_VERSION");
    for release in lines("scripts/releases.txt") {
        let version = release.split(' ').next().unwrap();
        for role in ROLES {
            let hash = released.get(&(version.to_owned(), role.to_owned()));
            let hash = hash.unwrap_or_else(|| {
                panic!(
                    "sql/released.txt lacks a line for {version} {role}; of the present files it is: \
                     {version} {role} {}",
                    functions_hash(role)
                )
            });
            if version == present {
                assert_eq!(
                    *hash,
                    functions_hash(role),
                    "the {role} functions differ from those of the released version {version}: raise `version` in \
                     Cargo.toml, to 0.3.0-dev or the like; sql/released.txt does not change"
                );
            }
        }
    }
}
