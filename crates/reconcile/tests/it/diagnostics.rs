//! Hazard: a diagnostic that points to the wrong place.

use reconcile::{Bundle, BundleSource, find_bundle_problems};

use crate::folder::{Folder, integrations};

const GOOD: &str = "\
$schema: /ledger/account-type-1.yml
name: a
key_attributes:
  - {name: k, type: int}
attributes:
  - name: x
    type: string
shard_key: [k]
aggregate: day
";

/// Diagnostics of a type in which `from` is replaced by `to`.
fn told(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    Folder::new(&[("ledger/a.yaml", &GOOD.replace(from, to))]).told()
}

/// Replaces `SCHEMAS` and `INTEGRATIONS` by the built-in names.
fn with_lists(expected: &str) -> String {
    let builtin = Bundle::read(BundleSource::Builtin).unwrap();
    let schemas: Vec<&str> = builtin.schema_names().collect();
    expected
        .replace("SCHEMAS", &schemas.join(", "))
        .replace("INTEGRATIONS", &integrations().join(", "))
}

#[test]
fn the_built_in_bundle_is_sound() {
    let bundle = Bundle::read(BundleSource::Builtin).unwrap();
    assert_eq!(find_bundle_problems(&bundle, &[], &integrations()), []);
    assert_eq!(bundle.documents_of_schema("/ledger/account-type-1.yml").count(), 2);
}

#[test]
fn a_sound_file_is_sound() {
    assert_eq!(told("name: a", "name: a"), Vec::<String>::new());
}

#[test]
fn each_error_has_its_line_its_field_and_what_is_allowed() {
    let cases = [
        (
            ("    type: string", "    type: text"),
            "ledger/a.yaml:7: attributes[0].type: `text` is not allowed (allowed: int, string, date, bool, uuid)",
        ),
        (
            ("    type: string", "    type: strin"),
            "ledger/a.yaml:7: attributes[0].type: `strin` is not allowed, did you mean `string`? (allowed: int, string, date, bool, uuid)",
        ),
        (
            ("    type: string", "    tpye: string"),
            "ledger/a.yaml:6: attributes[0].type: is missing: What its values are|ledger/a.yaml:7: attributes[0].tpye: unknown key, did you mean `type`? (allowed: name, type)",
        ),
        (
            ("{name: k, type: int}", "{name: k}"),
            "ledger/a.yaml:4: key_attributes[0].type: is missing: What its values are",
        ),
        (
            ("{name: k, type: int}", "k"),
            "ledger/a.yaml:4: key_attributes[0]: must be a mapping, not a text",
        ),
        (("name: a\n", ""), "ledger/a.yaml:1: name: is missing"),
        (
            ("name: a\n", "name: Ä\n"),
            "ledger/a.yaml:2: name: `Ä` is not allowed (allowed: a lower-case letter, then at most 62 lower-case letters, digits and _)",
        ),
        (
            ("shard_key: [k]", "shard_key: k"),
            "ledger/a.yaml:8: shard_key: must be a list, not a text",
        ),
        (
            ("shard_key: [k]", "shard_key: []"),
            "ledger/a.yaml:8: shard_key: the value has less than 1 item",
        ),
        (
            ("aggregate: day", "aggregate: day\ngropings: []"),
            "ledger/a.yaml:10: gropings: unknown key, did you mean `groupings`? (allowed: $schema, name, description, key_attributes, attributes, groupings, shard_key, aggregate)",
        ),
        (
            ("/ledger/account-type-1.yml", "/ledger/acount-type-1.yml"),
            "ledger/a.yaml:1: $schema: there is no schema `/ledger/acount-type-1.yml`, did you mean `/ledger/account-type-1.yml`? (known: SCHEMAS)",
        ),
        (
            ("$schema: /ledger/account-type-1.yml\n", "# no schema\n\n"),
            "ledger/a.yaml:3: $schema: is missing: it names the file's schema (known: SCHEMAS)",
        ),
        (("name: a\n", "name: a\nname: b\n"), "ledger/a.yaml:3: the key `name` is there twice"),
        (
            ("shard_key: [k]", "shard_key: [k"),
            "ledger/a.yaml:9: illegal placement of ':' indicator",
        ),
    ];
    for ((from, to), expected) in cases {
        assert_eq!(told(from, to).join("|"), with_lists(expected));
    }
}

#[test]
fn the_errors_of_all_files_are_told_at_once() {
    let folder = Folder::new(&[
        ("a/one.yaml", &GOOD.replace("day", "week")),
        ("a/two.yml", &GOOD.replace("int", "number")),
        ("b/three.yaml", "{"),
        ("b/four.yaml", "- 1\n"),
        ("README.md", "not YAML: ["),
        (".hidden.yaml", "["),
        (".git/x.yaml", "["),
    ]);
    let files: Vec<String> =
        folder.told().iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(files, ["a/one.yaml:9", "a/two.yml:4", "b/four.yaml:1", "b/three.yaml:1"]);
}

#[test]
fn one_name_is_one_document() {
    let metadata = "$schema: /app/integration-1.yml\nname: postings\nschemas: []\n";
    let folder =
        Folder::new(&[("integrations/a.yaml", metadata), ("integrations/b.yaml", metadata)]);
    let told = folder.told();
    assert!(
        told[0].starts_with("integrations/b.yaml:2: name: `postings` is already described in "),
        "{told:?}"
    );
}

#[test]
fn metadata_names_integrations_and_schemas_that_exist() {
    let metadata = "$schema: /app/integration-1.yml\nname: posting\nschemas:\n  - /postings/posting-rule-1.yml\n  - /x.yml\n";
    let folder = Folder::new(&[("integrations/a.yaml", metadata)]);
    let expected = [
        "integrations/a.yaml:2: name: there is no integration `posting`, did you mean `postings`? (known: INTEGRATIONS)",
        "integrations/a.yaml:5: schemas[1]: there is no schema `/x.yml` (known: SCHEMAS)",
    ];
    assert_eq!(folder.told(), expected.map(with_lists));
}

#[test]
fn a_bundle_with_schemas_goes_by_them_alone() {
    let folder = Folder::new(&[
        ("schemas/x-1.yml", "type: object\nproperties:\n  a: {type: integer}\n"),
        ("x.yaml", "$schema: /x-1.yml\na: 1.5\n"),
        ("integrations/a.yaml", "$schema: /app/integration-1.yml\n"),
    ]);
    assert_eq!(
        folder.told(),
        [
            "integrations/a.yaml:1: $schema: there is no schema `/app/integration-1.yml` (known: /x-1.yml)",
            "x.yaml:2: a: must be a whole number, not a number",
        ]
    );
}

#[test]
fn a_schema_that_is_none_is_told() {
    let told = |text: &str| Folder::new(&[("schemas/x-1.yml", text)]).told().remove(0);
    let wrong = told("type: object\nproperties:\n  a: {type: integr}\n");
    assert!(
        wrong.starts_with("schemas/x-1.yml:3: properties.a.type: is not a JSON Schema: "),
        "{wrong}"
    );
    let elsewhere = told("$ref: https://example.com/schema.json\n");
    assert!(elsewhere.starts_with("schemas/x-1.yml:1: is not a JSON Schema: "), "{elsewhere}");
    let costly = told("type: string\npattern: \"(?=a)b\"\n");
    assert!(costly.starts_with("schemas/x-1.yml:2: pattern: is not a JSON Schema: "), "{costly}");
}
