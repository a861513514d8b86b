//! Hazard: a small file with excessive parsing cost.

use std::time::{Duration, Instant};

use crate::folder::Folder;

fn refused(text: &str) -> String {
    let started = Instant::now();
    let folder = Folder::new(&[]);
    folder.put("bomb.yaml", text);
    let told = folder.told();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(told.len(), 1, "{told:?}");
    told[0].clone()
}

#[test]
fn aliases_of_aliases() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    let told = refused(&text);
    assert!(told.starts_with("bomb.yaml:"), "{told}");
}

#[test]
fn deep_nesting() {
    for text in [
        format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a: {}", "{b: ".repeat(100_000)),
        format!("a:\n{}", "- ".repeat(100_000)),
        (0..2000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
    ] {
        let told = refused(&text);
        assert!(!told.contains("{ "), "for people: {told}");
    }
    let block: String = (0..40).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(
        refused(&block).ends_with("it is nested more than 32 levels deep"),
        "{}",
        refused(&block)
    );
}

#[test]
fn many_nodes_and_large_files() {
    refused(&format!("a: [{}]", "1,".repeat(100_000)));
    let told = refused(&format!("a: \"{}\"", "x".repeat(yaml::MAX_YAML_BYTES)));
    assert!(told.ends_with("is larger than 1048576 bytes"), "{told}");
}

#[test]
fn merge_keys_and_more_than_one_document() {
    assert!(refused("a: &a {b: 1}\nc:\n  <<: *a\n").contains("merge keys"));
    assert!(refused("a: 1\n---\nb: 2\n").contains("one document"));
}

#[test]
fn an_alias_is_fine() {
    let value: std::collections::BTreeMap<String, Vec<i32>> =
        yaml::from_str("a: &a [1, 2]\nb: *a\n").unwrap();
    assert_eq!(value["b"], [1, 2]);
}

#[test]
fn a_refusal_does_not_show_the_text() {
    let refused = yaml::from_str::<Vec<i32>>("url: postgres://u:canary@h\n  x: [").unwrap_err();
    assert!(!refused.contains("canary") && refused.starts_with("line "), "{refused}");
}

#[test]
fn what_is_not_text_is_told() {
    let folder = Folder::new(&[]);
    folder.put("a.yaml", b"a: \xff\n");
    assert_eq!(folder.told(), ["a.yaml:1: is not UTF-8"]);
}
