//! Hazard: a dry run that writes.

use ledger::types::LedgerTypeKind;
use sqlx::{AssertSqlSafe, PgPool};
use store::PgConnectOptions;
use store::testing::{control_database_options, open_test_pool, run_test};

use super::setup::{Run, Used, account, counts, lock, stored};

/// Connections of a role with SELECT privileges only.
async fn reader(options: &PgConnectOptions, owner: &PgPool) -> PgPool {
    let role = format!("reader_{}", options.get_database().unwrap());
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA public TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(owner).await.unwrap();
    open_test_pool(options.clone().username(&role)).await
}

#[test]
fn a_dry_run_needs_no_right_to_write_and_says_what_a_real_run_does() {
    run_test(async {
        let options = control_database_options().await;
        let owner = open_test_pool(options.clone()).await;
        let reader = reader(&options, &owner).await;
        let types = [account("a"), lock("b"), lock("c")];
        let usage = || Used::by_somebody(&[(LedgerTypeKind::Lock, "c")]);
        let dry = |pool| Run { dry_run: true, usage: usage(), ..Run::on(pool) };
        let real = |pool| Run { usage: usage(), ..Run::on(pool) };

        let planned = dry(&reader).of(&types).await;
        assert_eq!(stored(&owner).await.0, Vec::<String>::new());
        assert_eq!(real(&owner).of(&types).await.outcomes[0].plan, planned.outcomes[0].plan);

        let next = [account("a").replace("aggregate: day", "aggregate: hour"), lock("d")];
        let planned = dry(&reader).of(&next).await;
        assert_eq!(counts(&planned), [1, 1, 1, 1]);
        assert_eq!(real(&owner).of(&next).await.outcomes[0].plan, planned.outcomes[0].plan);

        // The role really cannot write.
        let refused = real(&reader).of(&types).await;
        assert!(
            refused.outcomes[0].error.as_ref().unwrap().to_string().contains("permission denied")
        );
    });
}
