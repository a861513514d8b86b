//! Hazard: an integration is skipped although something it depends on has changed.

use reconcile::{ReconcileDecision, ReconcileNarrowing};

use crate::world::{SCHEMA, Things, at, commit, dry, metadata, real, teams, thing};

#[test]
fn files_schemas_and_metadata_count_and_nothing_else_does() {
    store::testing::run_test(async {
        let things = Things::default();
        let sized = |max: u32| format!("  size: {{type: integer, maximum: {max}}}\n");
        // The change, and whether it affects an input.
        type Change = fn(&crate::folder::Folder);
        let cases: [(&str, Change, bool); 7] = [
            ("nothing", |_| {}, false),
            (
                "a file of a listed schema",
                |folder| folder.put("things/n1.yaml", thing("n1", "t1", 2)),
                true,
            ),
            (
                "the same in other words",
                |folder| folder.put("things/n1.yaml", thing("n1", "t1", 1) + "# x\n"),
                true,
            ),
            ("a file more", |folder| folder.put("things/n8.yaml", thing("n8", "t8", 1)), true),
            (
                "a file less",
                |folder| std::fs::remove_file(folder.path().join("things/n1.yaml")).unwrap(),
                true,
            ),
            (
                "its metadata",
                |folder| folder.put("integrations/postings.yaml", metadata("other words")),
                true,
            ),
            (
                "a file of another schema",
                |folder| folder.put("others/o.yaml", "$schema: /others/other-1.yml\n"),
                false,
            ),
        ];
        for (what, change, counts) in cases {
            let folder = teams(3);
            folder.put("schemas/others/other-1.yml", "type: object\n");
            folder.put("others/o.yaml", "$schema: /others/other-1.yml\nx: 1\n");
            commit(folder.path());
            change(&folder);
            assert_eq!(decision(&things, &folder).await.0, counts, "{what}");
        }
        // A schema.
        let folder = teams(1);
        folder.put("schemas/others/other-1.yml", "type: object\n");
        commit(folder.path());
        folder.put("schemas/others/other-1.yml", "type: object\ntitle: x\n");
        assert!(!decision(&things, &folder).await.0, "a schema that is not listed");
        let schema = folder.path().join("schemas").join(SCHEMA.trim_start_matches('/'));
        let text = std::fs::read_to_string(&schema)
            .unwrap()
            .replace("  size: {type: integer}\n", &sized(9));
        std::fs::write(schema, text).unwrap();
        assert!(decision(&things, &folder).await.0, "a listed schema");
    });
}

/// Whether it is run, and the evidence.
async fn decision(things: &Things, folder: &crate::folder::Folder) -> (bool, serde_json::Value) {
    let bundle = folder.bundle();
    let other = at(&bundle, "HEAD").unwrap();
    let narrowing =
        ReconcileNarrowing { changed_since: Some(Ok(&other)), ..ReconcileNarrowing::default() };
    // Real runs are skipped as well.
    let [dry, real] = [dry(), real()];
    let decided = things.runtime().decide_runs(&bundle, &dry, &narrowing).await.unwrap();
    assert_eq!(decided, things.runtime().decide_runs(&bundle, &real, &narrowing).await.unwrap());
    let work = &decided.works[0];
    (work.decision != ReconcileDecision::Skipped, work.evidence.clone())
}

#[test]
fn what_was_compared_is_said() {
    store::testing::run_test(async {
        let folder = teams(3);
        commit(folder.path());
        let (_, same) = decision(&Things::default(), &folder).await;
        assert_eq!(same["inputs"], same["compared_inputs"]);
        // Three objects, their schema and the metadata.
        assert_eq!(
            (&same["inputs"]["files"], &same["changed"]),
            (&5.into(), &serde_json::json!([]))
        );
        folder.put("things/n1.yaml", thing("n1", "t1", 2));
        let (_, other) = decision(&Things::default(), &folder).await;
        assert_eq!(other["changed"], serde_json::json!(["things/n1.yaml"]));
    });
}

#[test]
fn an_unreadable_revision_is_a_warning_and_the_full_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(1), Things::default());
        let narrowing = ReconcileNarrowing {
            changed_since: Some(Err("no such revision".to_owned())),
            ..ReconcileNarrowing::default()
        };
        let decided =
            things.runtime().decide_runs(&folder.bundle(), &dry(), &narrowing).await.unwrap();
        assert_eq!(decided.works[0].decision, ReconcileDecision::Full);
        assert_eq!(decided.warnings, ["--changed-since: no such revision; everything is run"]);
    });
}
