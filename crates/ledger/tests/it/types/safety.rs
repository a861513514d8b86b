//! Hazard: a change of a type alters or destroys the meaning of stored rows.

use ledger::types::LedgerTypeKind;
use store::testing::run_test;

use super::setup::{Run, Used, account, counts, lock, stored};

/// Refusal reason of a change from `account("a")` to `to`, used or not; `None` if it was made.
async fn change(to: String, used: bool) -> Option<String> {
    let pool = store::testing::create_control_database().await;
    assert_eq!(counts(&Run::on(&pool).of(&[account("a")]).await), [1, 0, 0, 0]);
    let before = stored(&pool).await;
    let usage = Used::by_somebody(if used { &[(LedgerTypeKind::Account, "a")] } else { &[] });
    let report = Run { usage, ..Run::on(&pool) }.of(&[to]).await;
    let refused = report.outcomes[0].plan.refused.first().map(|refusal| refusal.reason.clone());
    assert_eq!(refused.is_some(), stored(&pool).await == before, "{report}");
    assert_eq!(report.has_succeeded(), refused.is_none());
    refused
}

#[test]
fn the_refusals_with_what_to_do_instead() {
    run_test(async {
        let a = account("a");
        let key = "never changes; describe a new type under another name and let this one run out";
        let always = [
            (
                a.replace("shard_key: [k]", "shard_key: [l]"),
                "shard_key: the shard key of a type never changes",
            ),
            (
                a.replace("shard_key: [k]", "shard_key: [k, l]"),
                "shard_key: the shard key of a type never changes",
            ),
            (a.replace("{name: l, type: int}", "{name: m, type: int}"), key),
            (a.replace("{name: l, type: int}", "{name: l, type: uuid}"), key),
            (
                a.replace("{name: x, type: int}", "{name: x, type: string}"),
                "`x` is of type int for ever",
            ),
        ];
        for (to, words) in always {
            for used in [false, true] {
                let refused = change(to.clone(), used).await.unwrap();
                assert!(refused.contains(words), "{refused}");
            }
        }
        let while_used = [
            (a.replace("groupings:\n  - [x]\n", ""), "groupings: keep [x] (more may be added)"),
            (
                a.replace("attributes:\n  - {name: x, type: int}\ngroupings:\n  - [x]\n", ""),
                "attributes: keep `x` (events may leave it out)",
            ),
            (
                lock("b"),
                "leave its file in the bundle until nothing of it is left and no rule refers to it",
            ),
        ];
        for (to, words) in while_used {
            assert_eq!(change(to.clone(), false).await, None);
            let pool = store::testing::create_control_database().await;
            Run::on(&pool).of(std::slice::from_ref(&a)).await;
            let usage = Used::by_somebody(&[(LedgerTypeKind::Account, "a")]);
            let report = Run { usage, ..Run::on(&pool) }.of(&[to]).await;
            let refused = &report.outcomes[0].plan.refused[0].reason;
            assert!(
                refused.starts_with("it is in use (by somebody): ") && refused.contains(words),
                "{refused}"
            );
        }
    });
}

#[test]
fn what_is_safe_is_done_whatever_is_in_use() {
    run_test(async {
        let a = account("a");
        let safe = [
            a.replace("groupings:", "  - {name: y, type: date}\ngroupings:\n  - [y]"),
            a.replace("aggregate: day", "aggregate: hour"),
            a.replace("name: a", "name: a\ndescription: Other words"),
        ];
        for to in safe {
            assert_eq!(change(to, true).await, None);
        }
    });
}

#[test]
fn a_refusal_leaves_its_object_alone_and_the_others_are_done() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        let usage = Used::by_somebody(&[(LedgerTypeKind::Account, "a")]);
        let on = || Run { usage: usage.clone(), ..Run::on(&pool) };
        assert_eq!(counts(&on().of(&[account("a"), lock("b"), lock("c")]).await), [3, 0, 0, 0]);
        assert_eq!(counts(&on().of(&[account("a"), lock("b"), lock("c")]).await), [0, 0, 0, 0]);
        let b = lock("b").replace("name: b", "name: b\ndescription: New");
        assert_eq!(counts(&on().of(&[b.clone(), account("d")]).await), [1, 1, 1, 1]);
        assert_eq!(
            stored(&pool).await.0,
            ["account/a bundle", "account/d bundle", "lock/b bundle"]
        );
        // Usage is queried only for types whose deletion depends on it, before the transaction and
        // in it.
        let asked =
            [(LedgerTypeKind::Account, "a".to_owned()), (LedgerTypeKind::Lock, "c".to_owned())];
        assert_eq!(*usage.asked.lock().unwrap(), [asked.clone(), asked].concat());
        usage.types.lock().unwrap().clear();
        assert_eq!(counts(&on().of(&[b, account("d")]).await), [0, 0, 1, 0]);
    });
}
