//! Hazard: a migration that has landed is edited, and databases that have it differ from new ones from then on.
//!
//! `migrations/landed.txt` has a line for each: role, version, SHA-256. A new migration adds its line; no line ever changes.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};

#[test]
fn no_migration_that_has_landed_was_edited_and_none_is_unlisted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut present = BTreeMap::new();
    for role in ["control", "shard", "data_manager"] {
        for file in std::fs::read_dir(folder.join(role)).unwrap() {
            let file = file.unwrap().path();
            let name = format!("{role}/{}", file.file_name().unwrap().to_str().unwrap());
            let digest = Sha256::digest(std::fs::read(&file).unwrap());
            present.insert(name, hex::encode(digest));
        }
    }
    let list = std::fs::read_to_string(folder.join("landed.txt")).unwrap();
    let landed: BTreeMap<String, String> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("name and SHA-256"))
        .map(|(name, digest)| (name.to_owned(), digest.to_owned()))
        .collect();
    assert_eq!(present, landed, "edit no migration that has landed: add another one");
}
