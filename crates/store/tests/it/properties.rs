//! Hazard: a documented promise without a test, a mutant without a test, an unreliable catalogue.
//!
//! Compares `docs/properties.md` and `scripts/mutants/list.txt` with the existing
//! tests and seeded faults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Minimum number of documented promises.
const LEAST_ROWS: usize = 60;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rows of the catalogue: promise, test, mutants.
fn rows() -> Vec<(String, String, Vec<String>)> {
    let page = read("docs/properties.md");
    let rows = page.lines().filter(|line| {
        line.starts_with("| ") && !line.starts_with("| promise ") && !line.starts_with("| ---")
    });
    let cells = rows.map(|row| {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let row = |cells: Vec<String>| {
        let [promise, test, fault, mutants] = <[String; 4]>::try_from(cells).expect("four cells");
        assert!(!promise.is_empty() && !fault.is_empty(), "{test}");
        let named = mutants.split(',').map(|name| name.trim().trim_matches('`').to_owned());
        (promise, test.trim_matches('`').to_owned(), named.filter(|name| name != "-").collect())
    };
    cells.map(row).collect()
}

/// Tests that claim each mutant.
fn mutants() -> BTreeMap<String, Vec<String>> {
    let list = read("scripts/mutants/list.txt");
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let [name, what, tests] =
            <[&str; 3]>::try_from(line.split(" | ").collect::<Vec<_>>()).expect("three parts");
        assert!(!what.is_empty());
        (name.to_owned(), tests.split(' ').map(str::to_owned).collect())
    };
    lines.map(parse).collect()
}

/// Whether a test of this name exists in the sources.
fn exists(test: &str) -> bool {
    if let Some((file, name)) = test.split_once(".py::") {
        let path = root().join("order_service/tests/e2e").join(format!("{file}.py"));
        return std::fs::read_to_string(path)
            .is_ok_and(|text| text.contains(&format!("\ndef {name}(")));
    }
    let parts: Vec<&str> = test.split("::").collect();
    let [package, modules @ .., name] = &parts[..] else { return false };
    let folder = match *package {
        "order_service" => root().join("order_service/tests/it"),
        package => root().join("crates").join(package).join("tests/it"),
    };
    let path = modules.iter().fold(folder, |path, module| path.join(module));
    [path.with_extension("rs"), path.join("mod.rs")].iter().any(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let plain = text.contains(&format!("#[test]\nfn {name}("));
        let declared = text.split_once(&format!("]\nasync fn {name}(")).map(|(before, _)| before);
        plain
            || declared.is_some_and(|before| {
                before.lines().last().is_some_and(|line| line.starts_with("#[tokio::test"))
            })
    })
}

/// Appends all Rust sources below a directory except tests.
fn sources(folder: &Path, found: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Names passed to `store::mutant` in the code, and names of the schema mutant files.
fn seeded() -> BTreeSet<String> {
    let mut text = String::new();
    sources(&root().join("crates"), &mut text);
    sources(&root().join("order_service/src"), &mut text);
    let asked = text
        .split("mutant(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned);
    let mut names: BTreeSet<String> = asked.collect();
    for schema in ["control", "shard"] {
        for entry in
            std::fs::read_dir(root().join("scripts/mutants").join(schema)).unwrap().flatten()
        {
            names.insert(entry.path().file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    names
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let rows = rows();
    assert!(rows.len() >= LEAST_ROWS, "{} rows", rows.len());
    let missing: Vec<_> = rows.iter().filter(|(_, test, _)| !exists(test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let promises: BTreeSet<&String> = rows.iter().map(|(promise, ..)| promise).collect();
    assert_eq!(promises.len(), rows.len(), "a promise is there twice");
}

#[test]
fn every_mutant_is_claimed_by_tests_that_exist() {
    let mutants = mutants();
    assert_eq!(
        seeded(),
        mutants.keys().cloned().collect(),
        "what is seeded, and what the list names"
    );
    for (name, tests) in &mutants {
        assert!(!tests.is_empty() && tests.iter().all(|test| exists(test)), "{name}: {tests:?}");
    }
}

#[test]
fn the_catalogue_and_the_list_of_mutants_say_the_same() {
    let claims = |claims: BTreeMap<String, Vec<String>>| -> BTreeSet<(String, String)> {
        let pairs = |(name, tests): (String, Vec<String>)| {
            tests.into_iter().map(move |test| (name.clone(), test))
        };
        claims.into_iter().flat_map(pairs).collect()
    };
    let rows = rows().into_iter();
    let shown = rows
        .flat_map(|(_, test, mutants)| mutants.into_iter().map(move |name| (name, test.clone())));
    assert_eq!(shown.collect::<BTreeSet<_>>(), claims(mutants()));
}
