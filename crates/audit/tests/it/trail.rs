//! Promise: what is in the audit trail stays as it was written until its retention is over, and is
//! found newest first.

use std::time::Duration;

use audit::{
    AuditAction, AuditActor, AuditDifference, AuditEntry, AuditFilter, AuditId, forget_entries,
    list_entries, record_entries,
};
use serde_json::json;
use store::PgPool;
use store::testing::{create_control_database, run_test};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn record(pool: &PgPool, client: &str, entries: Vec<AuditEntry>) {
    let actor = AuditActor::of_caller(Some(client), Some("10.0.0.7"));
    store::transaction("test_record", (actor, entries))
        .run(pool, |connection, (actor, entries)| {
            Box::pin(record_entries(connection, actor, entries))
        })
        .await
        .unwrap();
}

fn entry(action: AuditAction, name: u32) -> AuditEntry {
    let difference = AuditDifference::default().with_fact("n", name);
    AuditEntry::new(action, "task", name, &difference)
}

async fn objects(pool: &PgPool, filter: AuditFilter) -> Vec<String> {
    let listed = list_entries(pool, filter).await.unwrap();
    listed.into_iter().map(|row| row.object).collect()
}

async fn refusal(pool: &PgPool, sql: &'static str) -> Option<String> {
    let refused = sqlx::query(sql).execute(pool).await.unwrap_err();
    refused.as_database_error().unwrap().code().map(|code| code.to_string())
}

fn page(limit: i64) -> AuditFilter {
    AuditFilter { limit, ..AuditFilter::default() }
}

#[test]
fn rows_are_not_changed_and_not_deleted() {
    run_test(async {
        let pool = create_control_database().await;
        record(&pool, "a", vec![entry(AuditAction::TaskCancel, 1)]).await;
        for sql in [
            "UPDATE audit SET actor = 'other'",
            "DELETE FROM audit",
            "DELETE FROM audit WHERE false",
            "TRUNCATE audit",
        ] {
            assert_eq!(refusal(&pool, sql).await.as_deref(), Some("23001"), "{sql}");
        }
        // The retention leaves no permission behind on its connection.
        assert_eq!(forget_entries(&pool, DAY).await.unwrap(), 0);
        for _ in 0..10 {
            assert_eq!(refusal(&pool, "DELETE FROM audit").await.as_deref(), Some("23001"));
        }
        let row = list_entries(&pool, page(10)).await.unwrap().pop().unwrap();
        assert_eq!((row.actor.as_str(), row.origin.as_str()), ("a", "10.0.0.7"));
        assert_eq!((row.action.as_str(), row.object.as_str()), ("task.cancel", "task/1"));
        assert_eq!(row.difference, json!({"n": 1}));
    });
}

#[test]
fn pages_are_newest_first_and_filters_restrict_them() {
    run_test(async {
        let pool = create_control_database().await;
        let many = (1..=250).map(|name| entry(AuditAction::TaskCancel, name)).collect();
        record(&pool, "a", many).await;
        record(&pool, "b", vec![entry(AuditAction::TaskRetry, 7)]).await;
        let all = list_entries(&pool, page(1000)).await.unwrap();
        assert_eq!(all.len(), 251);
        assert!(all.is_sorted_by(|newer, older| newer.audit_id > older.audit_id));
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let found = list_entries(&pool, AuditFilter { before, ..page(100) }).await.unwrap();
            let Some(last) = found.last() else { break };
            before = Some(last.audit_id);
            paged.extend(found);
        }
        assert_eq!(paged, all);

        let of_b = AuditFilter { actor: Some("b".to_owned()), ..page(10) };
        assert_eq!(objects(&pool, of_b).await, ["task/7"]);
        let retried = AuditFilter { action: Some(AuditAction::TaskRetry), ..page(10) };
        assert_eq!(objects(&pool, retried).await, ["task/7"]);
        let task = AuditFilter { object: Some("task/7".to_owned()), ..page(10) };
        assert_eq!(objects(&pool, task).await.len(), 2);
        let (first, last) = (all[250].at, all[0].at);
        let from = AuditFilter { from: Some(last), ..page(1000) };
        assert_eq!(objects(&pool, from).await, ["task/7"]);
        let to = AuditFilter { from: Some(first), to: Some(last), ..page(1000) };
        assert_eq!(objects(&pool, to).await.len(), 250);
        let none = AuditFilter { before: Some(AuditId(0)), ..page(10) };
        assert!(objects(&pool, none).await.is_empty());
    });
}

#[test]
fn entries_go_after_their_retention_and_not_by_the_clock_alone() {
    run_test(async {
        let pool = create_control_database().await;
        let insert = "INSERT INTO audit (at, actor, origin, action, object, difference)
            SELECT now() - n * interval '1 day', 'a', 'o', 'task.retry', 'task/' || n, '{}'
            FROM generate_series(400, 1, -1) AS n, generate_series(1, 20)";
        sqlx::query(insert).execute(&pool).await.unwrap();
        assert_eq!(forget_entries(&pool, DAY * 365).await.unwrap(), 36 * 20);
        assert_eq!(forget_entries(&pool, DAY * 365).await.unwrap(), 0);
        // A retention below a day is a day.
        let left = forget_entries(&pool, Duration::ZERO).await.unwrap();
        assert_eq!(left, 364 * 20);
        let insert = "INSERT INTO audit (at, actor, origin, action, object, difference)
            VALUES (now() - interval '9 years', 'a', 'o', 'task.retry', 'task/1', '{}')";
        sqlx::query(insert).execute(&pool).await.unwrap();
        assert_eq!(forget_entries(&pool, DAY * 365).await.unwrap(), 0, "it is the newest");
    });
}
