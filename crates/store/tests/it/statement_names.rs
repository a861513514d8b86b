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

/// All files of the programs' code.
fn all_source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for part in std::fs::read_dir(repository().join("crates")).unwrap() {
        source_files(&part.unwrap().path().join("src"), &mut files);
    }
    for part in ["order_service/src", "data_manager/src"] {
        source_files(&repository().join(part), &mut files);
    }
    files
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names given to `statement(`, and those of reads of owned objects, in a file's code before its
/// tests.
fn statement_names(source: &str) -> Vec<&str> {
    let code = source.split("#[cfg(test)]\nmod").next().unwrap();
    let calls = code.split("statement(").skip(1).map(str::trim_start);
    let reads = code.split("const READ_NAME: &'static str = ").skip(1);
    calls
        .chain(reads)
        .filter_map(|call| {
            call.strip_prefix("PgOperation::named(").unwrap_or(call).strip_prefix('"')
        })
        .filter_map(|name| name.split_once('"'))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_statement_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in all_source_files().iter().filter(|file| !file.ends_with("store/src/statement.rs")) {
        let source = std::fs::read_to_string(file).unwrap();
        for name in statement_names(&source) {
            places.entry(name.to_owned()).or_default().push(file.display().to_string());
        }
    }
    assert!(places.len() > 200, "{}", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

/// A renamed statement would be left out of the runs with injected faults.
#[test]
fn faults_are_injected_at_statements_that_exist() {
    let faults = repository().join("order_service/tests/e2e/chaos_faults.py");
    let faults = std::fs::read_to_string(faults).unwrap();
    let list = faults.split_once("\nSTATEMENTS = (").unwrap().1.split_once("\n)").unwrap().0;
    let sources: Vec<String> =
        all_source_files().iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(names.contains(&"insert_events"), "{names:?}");
    for name in names {
        let quoted = format!("\"{name}\"");
        assert!(sources.iter().any(|source| source.contains(&quoted)), "no statement {name}");
    }
}
