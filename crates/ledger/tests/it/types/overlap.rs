//! Hazard: two concurrent runs, each planning on rows that the other is changing.

use store::testing::run_test;

use super::setup::{Run, account, counts, lock, stored};

#[test]
fn a_second_run_waits_for_the_first() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        let mut first = pool.begin().await.unwrap();
        reconcile::exclude_other_runs_in_tx(&mut first, "ledger-types").await.unwrap();
        let (elsewhere, types) = (pool.clone(), [account("a"), lock("b")]);
        let second = tokio::spawn(async move { counts(&Run::on(&elsewhere).of(&types).await) });
        let waiting =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                       AND wait_event = 'advisory')";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&pool).await.unwrap() {
            tokio::task::yield_now().await;
        }
        // A dry run takes no locks, and sees committed rows.
        let dry = Run { dry_run: true, ..Run::on(&pool) }.of(&[account("a")]).await;
        assert_eq!(counts(&dry), [1, 0, 0, 0]);
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap(), [2, 0, 0, 0]);
    });
}

#[test]
fn of_many_runs_at_once_one_does_the_work() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        let one = || async { counts(&Run::on(&pool).of(&[account("a"), lock("b")]).await) };
        let mut all = futures::future::join_all((0..8).map(|_| one())).await;
        all.sort();
        assert_eq!(all[..7], [[0; 4]; 7]);
        assert_eq!(all[7], [2, 0, 0, 0]);
        assert_eq!(stored(&pool).await.0, ["account/a bundle", "lock/b bundle"]);
    });
}
