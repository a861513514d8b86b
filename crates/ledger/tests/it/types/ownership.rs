//! Hazard: a run changes or deletes objects of another owner.

use sqlx::PgPool;
use store::testing::run_test;

use super::setup::{Run, account, counts, lock, stored};

async fn owned_by(pool: &PgPool, owner: &'static str) {
    Run::on(pool).of(&[account("a"), lock("b")]).await;
    sqlx::query("UPDATE ledger_types SET owner = $1").bind(owner).execute(pool).await.unwrap();
}

#[test]
fn what_belongs_to_others_is_reported_and_left_alone() {
    run_test(async {
        for owner in ["api", "configurator"] {
            let pool = store::testing::create_control_database().await;
            owned_by(&pool, owner).await;
            // Neither changed nor deleted; objects that the bundle does not name are ignored.
            let report = Run::on(&pool).of(&[account("a")]).await;
            assert_eq!((counts(&report), report.has_succeeded()), ([0, 0, 0, 1], false));
            let reason = format!("it belongs to {owner}; --take-over takes it over");
            assert_eq!(report.outcomes[0].plan.refused[0].reason, reason);
            let report = Run { take_over: true, ..Run::on(&pool) }.of(&[account("a")]).await;
            assert_eq!((counts(&report), report.has_succeeded()), ([0, 1, 0, 0], true));
            assert_eq!(
                stored(&pool).await.0,
                ["account/a bundle".to_owned(), format!("lock/b {owner}")]
            );
        }
    });
}

#[test]
fn what_is_built_in_is_nobodys() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        owned_by(&pool, "builtin").await;
        let report = Run::on(&pool).of(&[account("a")]).await;
        assert_eq!((counts(&report), report.outcomes[0].plan.adopted), ([0, 0, 1, 0], 1));
        assert_eq!(stored(&pool).await.0, ["account/a bundle"]);
        let report = Run::on(&pool).of(&[account("a")]).await;
        assert_eq!((counts(&report), report.outcomes[0].plan.adopted), ([0; 4], 0));
    });
}
