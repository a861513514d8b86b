//! Hazard: an early exit despite a change, or a failure where only the comparison is impossible.

use reconcile::{Bundle, ReconcileDecision, ReconcileNarrowing, ReconcileOptions, ReconcileReport};

use crate::world::{Things, at, commit, dry, git, real, teams, thing};

/// A dry run with early exit, compared with a revision.
async fn compared(things: &Things, bundle: &Bundle, revision: &str) -> ReconcileReport {
    let other = at(bundle, revision);
    let compare = Some(other.as_ref().map_err(Clone::clone));
    let narrowing = ReconcileNarrowing { compare, ..ReconcileNarrowing::default() };
    let runtime = things.runtime();
    let decided = runtime.decide_runs(bundle, &dry(), &narrowing).await.unwrap();
    runtime.execute(bundle, &dry(), &decided, &ReconcileOptions::default()).await.unwrap()
}

#[test]
fn an_unchanged_desired_state_is_no_work_and_says_what_was_compared() {
    store::testing::run_test(async {
        let (folder, things) = (teams(3), Things::default());
        commit(folder.path());
        // Equivalent YAML, and a file that is no input of the integration.
        folder.put(
            "things/n1.yaml",
            "# a comment\n".to_owned() + &thing("n1", "t1", 1).replace("size: 1", "\"size\": 1"),
        );
        let report = compared(&things, &folder.bundle(), "HEAD").await;
        assert!(report.has_succeeded() && things.ran().is_empty());
        assert!(
            report.to_string().starts_with("postings: early exit: desired state unchanged\n"),
            "{report}"
        );
        let json = report.to_json();
        let (one, evidence) = (&json["integrations"][0], &json["integrations"][0]["evidence"]);
        assert_eq!((&one["status"], &one["run"]), (&"succeeded".into(), &"early_exit".into()));
        assert_eq!(evidence["desired_state"], evidence["compared_desired_state"]);
        assert_eq!(evidence["desired_state"]["sha256"].as_str().unwrap().len(), 64);
        // The inputs differed.
        assert_ne!(evidence["inputs"]["sha256"], evidence["compared_inputs"]["sha256"]);
        assert_eq!(evidence["inputs"]["files"], 5);
        let commit = git(folder.path(), &["rev-parse", "HEAD"]);
        assert!(evidence["compared_with"].as_str().unwrap().contains(&commit[..12]), "{evidence}");
    });
}

#[test]
fn a_changed_desired_state_is_the_full_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(3), Things::default());
        commit(folder.path());
        folder.put("things/n1.yaml", thing("n1", "t1", 2));
        let report = compared(&things, &folder.bundle(), "HEAD").await;
        assert_eq!(
            (report.outcomes[0].decision, things.ran()),
            (ReconcileDecision::Full, vec!["*".to_owned()])
        );
        assert_eq!(report.outcomes[0].plan.changes.len(), 3);
    });
}

#[test]
fn a_revision_that_is_missing_or_broken_is_a_warning_and_the_full_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(1), Things::default());
        let good = thing("n0", "t0", 1);
        let revisions: [(&str, &str); 3] = [
            ("unreadable", "a: ["),
            ("unsound", "$schema: /things/thing-1.yml\nname: n0\n"),
            ("large", &format!("{good}# {}\n", "x".repeat(1 << 20))),
        ];
        for (tag, text) in revisions {
            folder.put("things/n0.yaml", text);
            commit(folder.path());
            git(folder.path(), &["tag", tag]);
        }
        folder.put("things/n0.yaml", &good);
        std::fs::remove_dir_all(folder.path().join("things")).unwrap();
        std::os::unix::fs::symlink("schemas/things", folder.path().join("things")).unwrap();
        commit(folder.path());
        git(folder.path(), &["tag", "linked"]);
        std::fs::remove_file(folder.path().join("things")).unwrap();
        folder.put("things/n0.yaml", &good);
        let bundle = folder.bundle();
        for revision in
            ["unreadable", "unsound", "large", "linked", "nothing", "-x", "", "HEAD:things"]
        {
            let report = compared(&things, &bundle, revision).await;
            assert_eq!(things.ran(), ["*"], "{revision}");
            assert!(report.has_succeeded());
            let [warning] = &report.warnings[..] else {
                panic!("{revision}: {:?}", report.warnings)
            };
            assert!(
                warning.starts_with("--early-exit-compare: ")
                    && warning.ends_with("; everything is run"),
                "{warning}"
            );
        }
    });
}

#[test]
fn a_folder_without_a_repository_or_git_is_a_warning_and_the_full_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(1), Things::default());
        let report = compared(&things, &folder.bundle(), "HEAD").await;
        assert!(report.warnings[0].contains("not a git repository"), "{:?}", report.warnings);
        assert_eq!(things.ran(), ["*"]);
    });
}

#[test]
fn a_folder_can_be_compared_with_too() {
    store::testing::run_test(async {
        let (folder, other, things) = (teams(2), teams(2), Things::default());
        let report = compared(&things, &folder.bundle(), other.path().to_str().unwrap()).await;
        assert_eq!(report.outcomes[0].decision, ReconcileDecision::EarlyExit);
    });
}

#[test]
fn an_integration_that_the_other_bundle_does_not_know_is_run() {
    store::testing::run_test(async {
        let (folder, things) = (teams(1), Things::default());
        let metadata = folder.path().join("integrations/postings.yaml");
        let text = std::fs::read_to_string(&metadata).unwrap();
        folder.put("integrations/postings.yaml", text.replace("[/things/thing-1.yml]", "[]"));
        commit(folder.path());
        folder.put("integrations/postings.yaml", text);
        let report = compared(&things, &folder.bundle(), "HEAD").await;
        assert!(
            report.warnings[0].contains("which its metadata does not list"),
            "{:?}",
            report.warnings
        );
        assert_eq!(things.ran(), ["*"]);
    });
}

#[test]
fn a_real_run_never_rests_on_a_comparison() {
    store::testing::run_test(async {
        let (folder, things) = (teams(2), Things::default());
        commit(folder.path());
        let (bundle, runtime) = (folder.bundle(), things.runtime());
        let other = at(&bundle, "HEAD").unwrap();
        let narrowing = ReconcileNarrowing {
            compare: Some(Ok(&other)),
            only_affected: true,
            ..ReconcileNarrowing::default()
        };
        let decided = runtime.decide_runs(&bundle, &real(), &narrowing).await.unwrap();
        assert_eq!(decided.works[0].decision, ReconcileDecision::Full);
    });
}

#[test]
fn reading_a_revision_touches_nothing() {
    store::testing::run_test(async {
        let folder = teams(2);
        commit(folder.path());
        folder.put("things/n0.yaml", thing("n0", "t0", 2));
        folder.put("things/n9.yaml", thing("n9", "t9", 9));
        git(folder.path(), &["add", "things/n9.yaml"]);
        let state = || {
            let read = |path: &str| std::fs::read(folder.path().join(path)).unwrap();
            (
                git(folder.path(), &["status", "--porcelain=v2", "--branch"]),
                read(".git/index"),
                read(".git/HEAD"),
            )
        };
        let before = state();
        let (bundle, old) = (folder.bundle(), at(&folder.bundle(), "HEAD").unwrap());
        assert_eq!(
            (
                bundle.documents_of_schema("/things/thing-1.yml").count(),
                old.documents_of_schema("/things/thing-1.yml").count()
            ),
            (3, 2)
        );
        assert_ne!(bundle.fingerprint(), old.fingerprint());
        assert_eq!(state(), before);
    });
}

#[test]
fn the_bundle_may_lie_below_the_repositorys_top() {
    store::testing::run_test(async {
        let folder = teams(1);
        folder.put("deep/down/things/n7.yaml", thing("n7", "t7", 1));
        folder.put("deep/other.yaml", "no: bundle");
        commit(folder.path());
        let below =
            Bundle::read(reconcile::BundleSource::Folder(folder.path().join("deep/down"))).unwrap();
        let old = at(&below, "HEAD").unwrap();
        assert_eq!(old.file_count(), below.file_count());
        assert_eq!(old.fingerprint(), below.fingerprint());
    });
}

#[test]
fn links_of_a_revision_are_followed_as_those_of_a_folder() {
    store::testing::run_test(async {
        let (folder, things) = (teams(2), Things::default());
        let link = |target: &str, name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        };
        folder.put("..data/deep/n7.yaml", thing("n7", "t7", 1));
        folder.put("things/n8.YAML", thing("n8", "t8", 1));
        link("README", "things/readme-too");
        link("things/n0.yaml", "README");
        link("../..data/deep", "linked/folder");
        link("folder/n7.yaml", "linked/first.yaml");
        link("first.yaml", "linked/second.yaml");
        link("..", "linked/up");
        link("/etc", "elsewhere");
        link("nowhere", "dangling");
        commit(folder.path());
        let bundle = folder.bundle();
        let old = at(&bundle, "HEAD").unwrap();
        assert!(
            bundle
                .documents_of_schema("/things/thing-1.yml")
                .any(|thing| thing.name() == Some("n8"))
        );
        assert_eq!(
            (old.file_count(), old.fingerprint()),
            (bundle.file_count(), bundle.fingerprint())
        );
        let report = compared(&things, &bundle, "HEAD").await;
        assert_eq!(
            (report.outcomes[0].decision, report.warnings.len()),
            (ReconcileDecision::EarlyExit, 0),
            "{:?}",
            report.warnings
        );
        // A link out of the folder is an error here as well.
        link("/etc/hostname", "things/out.yaml");
        commit(folder.path());
        let wrong = |bundle: &Bundle| bundle.find_problems(&[]).len();
        assert_eq!((wrong(&folder.bundle()), wrong(&at(&bundle, "HEAD").unwrap())), (1, 1));
    });
}

#[test]
fn a_name_that_is_a_folder_and_a_revision_is_no_answer() {
    store::testing::run_test(async {
        let folder = teams(1);
        commit(folder.path());
        git(folder.path(), &["branch", "src"]);
        let place = reconcile::BundleSource::Folder(folder.path().to_owned());
        // Tests run in the crate's folder, which contains a folder of this name.
        let doubt = place.explain_ambiguity("src").unwrap();
        assert!(doubt.contains("./src") && doubt.contains("refs/heads/src"), "{doubt}");
        for clear in ["./src", "refs/heads/src", "tests", "main", "nothing"] {
            assert_eq!(place.explain_ambiguity(clear), None, "{clear}");
        }
    });
}
