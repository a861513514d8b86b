//! Hazard: a command that is killed halfway, writes without permission, or reports
//! success after a failure.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use store::PgConnectOptions;
use store::testing::{control_database_options, open_test_pool, run_test};

use super::bundles::{copy, edit};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_order_service"));
    command.args(args).env_remove("ORDER_SERVICE_BUNDLE").env_remove("ORDER_SERVICE_DATABASE_URL");
    command
}

/// Exit code, standard output, standard error.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn done(mut command: Command) -> (i32, String, String) {
    told(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap())
}

/// Connection URL for a child process. The test server's socket is in a directory that
/// this process has open.
fn url(options: &PgConnectOptions, user: &str) -> String {
    let folder = std::fs::read_link(options.get_socket().unwrap()).unwrap();
    let folder = folder.to_str().unwrap().replace('/', "%2F");
    format!("postgres:///{}?host={folder}&user={user}", options.get_database().unwrap())
}

async fn types(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM ledger_types ORDER BY name").fetch_all(pool).await.unwrap()
}

const TYPES: [&str; 4] =
    ["pickup_point_inflow", "storage_lock", "storage_outflow", "storage_state"];

#[test]
fn validate_says_what_is_wrong_and_exits_1() {
    let folder = copy();
    let dir = folder.path().to_str().unwrap();
    let validate = |output: &str| {
        told(
            command(&["bundle", "validate", "--bundle", dir, "--output", output]).output().unwrap(),
        )
    };
    let (code, said, _) = validate("text");
    assert_eq!((code, said), (0, format!("the bundle {dir}: 22 files, all sound\n")));
    edit(&folder, "ledger/storage_lock.yaml", "shard_key:", "shardkey:");
    let (code, said, complaint) = validate("text");
    assert_eq!(code, 1);
    assert_eq!(
        said,
        format!(
            "{dir}/ledger/storage_lock.yaml:1: shard_key: is missing: The attributes that decide on the shard\n\
             {dir}/ledger/storage_lock.yaml:6: shardkey: unknown key, did you mean `shard_key`? \
             (allowed: $schema, name, description, attributes, shard_key)\n"
        )
    );
    assert_eq!(complaint, format!("error: the bundle {dir} has 2 problems\n"));
    let (code, said, _) = validate("json");
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["valid"], &json["errors"][1]["line"]), (1, &false.into(), &6.into()));
    assert_eq!(json["errors"][1]["field"], "shardkey");
}

#[test]
fn wrong_usage_exits_2() {
    for args in [
        &["reconcile"][..],
        &["reconcile", "nothing", "--bundle", "x"],
        &["reconcile", "--bundle", "x", "--early-exit-compare", "HEAD"],
        &["reconcile", "--bundle", "x", "--dry-run", "--check-only-affected-shards"],
        &[
            "reconcile",
            "--bundle",
            "x",
            "--dry-run",
            "--early-exit-compare",
            "y",
            "--sample-skipped",
            "200%",
        ],
        &["reconcile", "postings", "--bundle", "x", "--shard", "y"],
        &["reconcile", "--bundle", "x", "--apply", "y", "--dry-run"],
        &["reconcile", "--bundle", "x", "--plan-out", "y", "--drift"],
        &["reconcile", "--bundle", "x", "--pool-size", "0"],
        &["reconcile", "--bundle", "x", "--url", "localhost:1"],
        &["reconcile", "--bundle", "x", "--arg", "novalue"],
        &["bundle"],
    ] {
        let (code, said, complaint) = told(command(args).output().unwrap());
        assert_eq!((code, said.as_str()), (2, ""), "{args:?}: {complaint}");
    }
    let (code, _, complaint) =
        told(command(&["reconcile", "--bundle", "/nowhere"]).output().unwrap());
    assert_eq!(
        (code, complaint.as_str()),
        (1, "error: the bundle /nowhere: No such file or directory (os error 2)\n")
    );
}

#[test]
fn a_dry_run_works_for_a_user_who_may_only_read() {
    run_test(async {
        let options = control_database_options().await;
        let owner = open_test_pool(options.clone()).await;
        let role = format!("reader_{}", options.get_database().unwrap());
        let grants = format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        );
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(&owner).await.unwrap();
        let folder = copy();
        let (url, dir) = (url(&options, &role), folder.path().to_str().unwrap().to_owned());
        let reconcile = async |more: &[&str]| {
            let all = [
                &["reconcile", "--bundle", &dir, "--database-url", &url, "--output", "json"],
                more,
            ]
            .concat();
            done(command(&all)).await
        };
        let (code, said, complaint) = reconcile(&["--dry-run"]).await;
        assert_eq!(code, 0, "{complaint}");
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&json["dry_run"], &json["summary"]["create"]), (&true.into(), &18.into()));
        let (code, said, complaint) = reconcile(&[]).await;
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (code, complaint.as_str()),
            (1, "error: 5 of 6 integrations failed, 3 shards failed\n")
        );
        assert!(
            json["integrations"][0]["error"].as_str().unwrap().contains("permission denied"),
            "{said}"
        );
        assert!(types(&owner).await.is_empty());
    });
}

#[test]
fn a_run_that_is_killed_in_the_middle_leaves_nothing() {
    run_test(async {
        let options = control_database_options().await;
        let owner = open_test_pool(options.clone()).await;
        let folder = copy();
        let (url, dir) =
            (url(&options, options.get_username()), folder.path().to_str().unwrap().to_owned());
        let args = ["reconcile", "--bundle", &dir, "--database-url", &url];
        // The types are written by then; recording the reconciled state at the end has to wait.
        let mut holding = owner.begin().await.unwrap();
        sqlx::query("LOCK TABLE reconciled IN SHARE MODE").execute(&mut *holding).await.unwrap();
        let mut killed =
            command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let held_up = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name LIKE 'order_service/%' AND wait_event_type = 'Lock'";
        let there = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name LIKE 'order_service/%'";
        let count =
            async |asked| sqlx::query_scalar::<_, i64>(asked).fetch_one(&owner).await.unwrap();
        while count(held_up).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        holding.rollback().await.unwrap();
        while count(there).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(types(&owner).await.is_empty());
        let noted: i64 =
            sqlx::query_scalar("SELECT count(*) FROM reconciled").fetch_one(&owner).await.unwrap();
        assert_eq!(noted, 0);
        // The next run completes everything.
        let (code, said, _) = done(command(&args)).await;
        assert!(
            code == 0 && said.ends_with("Plan: 18 to create, 0 to update, 0 to delete\n"),
            "{said}"
        );
        assert_eq!(types(&owner).await, TYPES);
        let (code, said, _) = done(command(&args)).await;
        assert!(
            code == 0 && said.ends_with("Plan: 0 to create, 0 to update, 0 to delete\n"),
            "{said}"
        );
    });
}

/// Objects in the control database that the bundle owns.
async fn owned(pool: &PgPool) -> Vec<String> {
    let owned = "SELECT kind || ' ' || name FROM ledger_types UNION ALL SELECT 'schedule ' || name FROM task_schedules
                 UNION ALL SELECT 'config ' || name FROM action_configs
                 UNION ALL (SELECT 'rules ' || jsonb_array_length(rules) FROM posting_rules ORDER BY version DESC LIMIT 1)
                 ORDER BY 1";
    sqlx::query_scalar(owned).fetch_all(pool).await.unwrap()
}

#[test]
fn a_folder_that_is_no_bundle_is_no_wish_to_delete_everything() {
    run_test(async {
        let options = control_database_options().await;
        let owner = open_test_pool(options.clone()).await;
        let (folder, url) = (copy(), url(&options, options.get_username()));
        let config = "$schema: /events/action-config-1.yml\nname: c\non: [{event: e}]\naction: {task: noop}\n";
        std::fs::create_dir(folder.path().join("events")).unwrap();
        std::fs::write(folder.path().join("events/c.yaml"), config).unwrap();
        let on = async |command_line: &[&str], dir: &Path| {
            let place = ["--bundle", dir.to_str().unwrap()];
            let database = ["--database-url", &url];
            let database = if command_line[0] == "bundle" { &[][..] } else { &database[..] };
            done(command(&[command_line, &place[..], database].concat())).await
        };
        let (code, _, complaint) = on(&["reconcile"], folder.path()).await;
        assert_eq!(code, 0, "{complaint}");
        let before = owned(&owner).await;
        let [empty, notes] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        std::fs::write(notes.path().join("README.md"), "nothing").unwrap();
        for dir in [&empty, &notes] {
            for line in [
                &["reconcile"][..],
                &["reconcile", "--dry-run"],
                &["reconcile", "action-configs", "--allow-delete-all"],
                &["action-configs"],
                &["bundle", "validate"],
            ] {
                let (code, said, complaint) = on(line, dir.path()).await;
                assert_eq!((code, said.as_str()), (1, ""), "{line:?}");
                assert!(
                    complaint.contains("an empty bundle would delete everything"),
                    "{line:?}: {complaint}"
                );
            }
        }
        // A subfolder as bundle: kinds it lacks are left alone, and the flag is named.
        let deep = folder.path().join("events");
        for line in [&["reconcile", "--dry-run"][..], &["reconcile"]] {
            let (code, said, _) = on(line, &deep).await;
            assert_eq!(code, 1, "{said}");
            for kind in [
                "account_type storage_outflow",
                "posting_rule order_processed",
                "schedule ledger-partitions",
            ] {
                assert!(
                    said.contains(&format!("! refused to delete {kind}: the bundle has no ")),
                    "{said}"
                );
            }
            assert!(said.contains("--allow-delete-all"), "{said}");
        }
        let (code, said, complaint) = on(&["action-configs"], &folder.path().join("ledger")).await;
        assert!(
            code == 1 && said.contains("refused c: ") && said.contains("--allow-delete-all"),
            "{said} {complaint}"
        );
        assert_eq!(owned(&owner).await, before);
        // With the flag they are deleted.
        let (code, said, complaint) = on(&["reconcile", "--allow-delete-all"], &deep).await;
        assert_eq!(
            (code, owned(&owner).await),
            (0, vec!["config c".to_owned(), "rules 0".to_owned()]),
            "{said} {complaint}"
        );
    });
}

#[test]
fn a_name_that_says_two_things_or_nothing_is_wrong_usage() {
    run_test(async {
        let options = control_database_options().await;
        let (folder, url) = (copy(), url(&options, options.get_username()));
        let dir = folder.path().to_str().unwrap();
        for line in [
            "init -q",
            "add -A",
            "-c user.name=a -c user.email=a@example.com commit -q -m x",
            "branch deploy",
        ] {
            let done =
                Command::new("git").arg("-C").arg(dir).args(line.split(' ')).output().unwrap();
            assert!(done.status.success(), "{line}: {done:?}");
        }
        std::fs::create_dir(folder.path().join("deploy")).unwrap();
        let within = async |args: &[&str]| {
            let mut command =
                command(&[&["reconcile", "--bundle", dir, "--database-url", &url], args].concat());
            command.current_dir(dir);
            done(command).await
        };
        for flag in ["--early-exit-compare", "--changed-since"] {
            let (code, _, complaint) = within(&["--dry-run", flag, "deploy"]).await;
            assert_eq!(code, 2, "{complaint}");
            assert!(
                complaint.contains("./deploy") && complaint.contains("refs/heads/deploy"),
                "{complaint}"
            );
        }
        let (code, said, complaint) =
            within(&["--dry-run", "--early-exit-compare", "refs/heads/deploy"]).await;
        assert!(code == 0 && said.contains("early exit"), "{said} {complaint}");
        let (code, _, complaint) = within(&["--dry-run", "--early-exit-compare", "-x"]).await;
        assert!(code == 2 && complaint.contains("use '--early-exit-compare=-x'"), "{complaint}");
        for (integration, known) in [
            ("ledger-types", "storage_lock"),
            ("queues", "prod"),
            ("partitions", "s0"),
            ("action-configs", "known: "),
        ] {
            for more in [&["--dry-run"][..], &[]] {
                let (code, said, complaint) =
                    within(&[&[integration, "--shard", "nosuch"], more].concat()).await;
                assert_eq!((code, said.as_str()), (2, ""), "{integration}: {complaint}");
                assert!(
                    complaint.contains("no shard `nosuch`") && complaint.contains(known),
                    "{complaint}"
                );
            }
        }
    });
}
