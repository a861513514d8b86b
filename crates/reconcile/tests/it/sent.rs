//! Hazard: files in a request bring their own schemas, and validation does not terminate.

use std::time::{Duration, Instant};

use reconcile::{Bundle, BundleSource, FilesToSend, SentFile, find_bundle_problems};

use crate::folder::{Folder, integrations};

const CONFIG: &str =
    "$schema: /events/action-config-1.yml\nname: c\non: [{event: e}]\naction: {task: noop}\n";

fn file(path: &str, text: &str) -> SentFile {
    SentFile { path: path.to_owned(), text: text.to_owned() }
}

fn sent(files: Vec<SentFile>) -> Result<Bundle, String> {
    Bundle::read(BundleSource::Sent(files.into()))
}

fn own_schema() -> String {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/schemas/events/action-config-1.yml");
    std::fs::read_to_string(path).unwrap()
}

/// Each level references the one below twice: exponential validation time.
fn doubling() -> String {
    let mut schema = "$defs:\n  d0: {type: object, properties: {x: {type: string}}}\n".to_owned();
    for n in 1..40 {
        let below = format!("{{$ref: \"#/$defs/d{}\"}}", n - 1);
        schema += &format!("  d{n}: {{allOf: [{below}, {below}]}}\n");
    }
    schema + "allOf: [{$ref: \"#/$defs/d39\"}]\n"
}

#[test]
fn a_schema_that_is_not_the_programs_is_refused_unread() {
    for (path, text) in [
        ("schemas/my/own-1.yml", doubling()),
        ("schemas/events/action-config-1.yml", doubling()),
        ("schemas/events/action-config-1.yml", own_schema() + "\n"),
    ] {
        let began = Instant::now();
        let refused = sent(vec![file("c.yaml", CONFIG), file(path, &text)]).unwrap_err();
        assert!(
            refused.starts_with(&format!("{path} is not a schema of this program")),
            "{refused}"
        );
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[test]
fn what_is_sent_is_judged_by_the_programs_schemas() {
    let schema = || file("schemas/events/action-config-1.yml", &own_schema());
    for files in [vec![file("c.yaml", CONFIG)], vec![file("c.yaml", CONFIG), schema()]] {
        let bundle = sent(files).unwrap();
        assert_eq!(bundle.find_problems(&[]), []);
        assert_eq!(bundle.documents_of_schema("/events/action-config-1.yml").count(), 1);
        assert!(bundle.schema_names().count() > 5, "all of the program's");
    }
    let wrong = sent(vec![file("c.yaml", &CONFIG.replace("task: noop", "tusk: noop"))]).unwrap();
    assert!(!wrong.find_problems(&[]).is_empty());
    assert!(
        sent(vec![schema()]).unwrap_err().contains("empty bundle"),
        "schemas are nothing to bring about"
    );
}

#[test]
fn schemas_and_what_needs_them_are_not_sent() {
    let integration = |name: &str, schemas: &str| {
        format!("$schema: /app/integration-1.yml\nname: {name}\nschemas: [{schemas}]\n")
    };
    let known = integration("action-configs", "/events/action-config-1.yml");
    let folder = Folder::new(&[
        ("schemas/my/own-1.yml", "type: object\n"),
        ("schemas/events/action-config-1.yml", &own_schema()),
        (
            "schemas/app/integration-1.yml",
            include_str!("../../../../configs/schemas/app/integration-1.yml"),
        ),
        ("c.yaml", CONFIG),
        ("own.yaml", "$schema: /my/own-1.yml\n"),
        ("integrations/action-configs.yaml", &known),
        (
            "integrations/queues.yaml",
            &integration("queues", "/my/own-1.yml, /events/action-config-1.yml"),
        ),
    ]);
    assert_eq!(folder.told(), [] as [&str; 0]);
    let FilesToSend { files, omitted_count: left_out } = folder.bundle().files_to_send().unwrap();
    assert_eq!(files, [file("c.yaml", CONFIG), file("integrations/action-configs.yaml", &known)]);
    assert_eq!(left_out, 2);
    assert_eq!(
        find_bundle_problems(&sent(files).unwrap(), &[], &integrations()),
        [],
        "the receiver has nothing against it"
    );
}

#[test]
fn what_is_wrong_is_sent_as_it_is() {
    let folder = Folder::new(&[
        ("c.yaml", CONFIG),
        ("typo.yaml", "$schema: /no/such-1.yml\n"),
        ("bad.yaml", "a: [\n"),
    ]);
    let FilesToSend { files, omitted_count: left_out } = folder.bundle().files_to_send().unwrap();
    assert_eq!(
        (files.len(), left_out),
        (3, 0),
        "whoever leaves it out would bring half a bundle about"
    );
}

#[test]
fn a_bundle_without_any_metadata_left_is_not_sent() {
    // Otherwise the built-in metadata would apply and run integrations that this
    // bundle does not configure.
    let folder = crate::world::teams(2);
    assert_eq!(folder.told(), [] as [&str; 0]);
    let refused = folder.bundle().files_to_send().unwrap_err();
    assert!(refused.contains("nothing is left to be sent"), "{refused}");
}
