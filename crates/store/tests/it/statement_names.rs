//! Hazard: two statements bear one name, and metrics and `pg_stat_activity` mix them up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn source_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names given to `statement(` in a file's code before its tests.
fn statement_names(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod").next().unwrap();
    let calls = code.split("statement(").skip(1).map(str::trim_start);
    calls
        .filter_map(|call| {
            call.strip_prefix("PgOperation::named(").unwrap_or(call).strip_prefix('"')
        })
        .filter_map(|name| name.split_once('"'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for part in std::fs::read_dir(root.join("crates")).unwrap() {
        source_files(&part.unwrap().path().join("src"), &mut files);
    }
    for part in ["order_service/src", "data_manager/src"] {
        source_files(&root.join(part), &mut files);
    }
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.ends_with("store/src/statement.rs")) {
        let source = std::fs::read_to_string(file).unwrap();
        for name in statement_names(&source) {
            places.entry(name.to_owned()).or_default().push(file.display().to_string());
        }
    }
    assert!(places.len() > 200, "{}", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}
