//! Hazard: a holder that was paused past its expiry continues to write.

use std::time::Duration;

use store::testing::{create_control_database, run_test};
use store::{Error, Lease, LeaseManager, LeaseOptions, PgPool};
use tokio::sync::mpsc;

const TERMS: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_millis(50) };
/// Never renewed: a paused process.
const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_secs(3600) };

fn process(
    pool: &PgPool,
    terms: LeaseOptions,
    adopt: &[&str],
) -> (LeaseManager, mpsc::Receiver<std::sync::Arc<Lease>>) {
    let (adopted, arriving) = mpsc::channel(8);
    let adopt = adopt.iter().map(|class| (*class).to_owned()).collect();
    (LeaseManager::start(pool.clone(), terms, adopt, adopted).0, arriving)
}

async fn fenced_write(pool: &PgPool, lease: std::sync::Arc<Lease>) -> store::Result<()> {
    store::transaction("fenced_write", ())
        .run(pool, move |connection, ()| {
            let lease = lease.clone();
            Box::pin(async move { lease.fence(connection).await })
        })
        .await
}

#[test]
fn one_holder_at_a_time_and_a_living_one_keeps_it() {
    run_test(async {
        let pool = create_control_database().await;
        let (a, _) = process(&pool, TERMS, &[]);
        let (b, _) = process(&pool, TERMS, &[]);
        let held = a.take_lease("test", "thing").await.unwrap().unwrap();
        let until = tokio::time::Instant::now() + TERMS.ttl * 3;
        while tokio::time::Instant::now() < until {
            assert!(b.take_lease("test", "thing").await.unwrap().is_none());
        }
        fenced_write(&pool, held.clone()).await.unwrap();
        a.release_lease(&held).await.unwrap();
        let taken = b.take_lease("test", "thing").await.unwrap().unwrap();
        assert!(taken.epoch > held.epoch);
    });
}

#[test]
fn a_paused_holder_changes_nothing_after_it_was_replaced() {
    run_test(async {
        let pool = create_control_database().await;
        let (paused, _) = process(&pool, PAUSED, &[]);
        let old = paused.take_lease("lane/test", "x").await.unwrap().unwrap();
        fenced_write(&pool, old.clone()).await.unwrap();
        let (_other, mut adopted) = process(&pool, TERMS, &["lane/test"]);
        let new = adopted.recv().await.unwrap();
        assert!(new.id == old.id && new.epoch > old.epoch);
        assert!(matches!(fenced_write(&pool, old.clone()).await, Err(Error::Fenced { .. })));
        assert!(old.is_lost());
        fenced_write(&pool, new).await.unwrap();
    });
}

#[test]
fn nobody_takes_over_while_a_fenced_transaction_is_open() {
    run_test(async {
        let pool = create_control_database().await;
        let (paused, _) = process(&pool, PAUSED, &[]);
        let old = paused.take_lease("lane/test", "x").await.unwrap().unwrap();
        let mut tx = pool.begin().await.unwrap();
        old.fence(&mut tx).await.unwrap();
        let (_other, mut adopted) = process(&pool, TERMS, &["lane/test"]);
        let early = tokio::time::timeout(TERMS.ttl * 3, adopted.recv()).await;
        assert!(early.is_err(), "taken over under an open fence");
        tx.commit().await.unwrap();
        assert!(adopted.recv().await.unwrap().epoch > old.epoch);
    });
}

#[test]
fn a_holder_learns_from_its_renewal_that_it_lost() {
    run_test(async {
        let pool = create_control_database().await;
        let (a, _) = process(&pool, TERMS, &[]);
        let held = a.take_lease("test", "thing").await.unwrap().unwrap();
        sqlx::query("UPDATE leases SET epoch = epoch + 1, owner = gen_random_uuid()")
            .execute(&pool)
            .await
            .unwrap();
        held.wait_until_lost().await;
    });
}

#[test]
fn a_process_that_takes_its_own_lease_again_keeps_the_new_one() {
    run_test(async {
        let pool = create_control_database().await;
        let (a, _) = process(&pool, TERMS, &[]);
        let (_b, mut adopted) = process(&pool, TERMS, &["test"]);
        let old = a.take_lease("test", "thing").await.unwrap().unwrap();
        let new = a.take_lease("test", "thing").await.unwrap().unwrap();
        assert!(old.is_lost() && !new.is_lost() && new.epoch > old.epoch);
        // The user of the old grant gives it up.
        a.forget_lease(&old);
        let taken_over = tokio::time::timeout(TERMS.ttl * 3, adopted.recv()).await;
        assert!(taken_over.is_err(), "it is renewed no more");
        fenced_write(&pool, new).await.unwrap();
    });
}

#[test]
fn a_lease_table_that_is_put_back_does_not_give_one_epoch_to_two() {
    run_test(async {
        let pool = create_control_database().await;
        let (first, _) = process(&pool, PAUSED, &[]);
        first.take_lease("test", "thing").await.unwrap().unwrap();
        sqlx::query("CREATE TABLE copy AS SELECT epoch, owner FROM leases")
            .execute(&pool)
            .await
            .unwrap();
        tokio::time::sleep(PAUSED.ttl * 2).await;
        let (second, _) = process(&pool, PAUSED, &[]);
        let held = second.take_lease("test", "thing").await.unwrap().unwrap();
        fenced_write(&pool, held.clone()).await.unwrap();
        sqlx::query(
            "UPDATE leases SET epoch = c.epoch, owner = c.owner, expires_at = '-infinity' FROM copy c",
        )
        .execute(&pool)
        .await
        .unwrap();
        let (third, _) = process(&pool, PAUSED, &[]);
        let taken = third.take_lease("test", "thing").await.unwrap().unwrap();
        fenced_write(&pool, taken.clone()).await.unwrap();
        assert!(matches!(fenced_write(&pool, held.clone()).await, Err(Error::Fenced { .. })));
    });
}

#[test]
fn a_dead_holders_lease_from_before_the_clock_was_set_back_is_taken_over() {
    run_test(async {
        let pool = create_control_database().await;
        let (dead, _) = process(&pool, PAUSED, &[]);
        let old = dead.take_lease("lane/test", "x").await.unwrap().unwrap();
        dead.take_lease("test", "y").await.unwrap().unwrap();
        sqlx::query("UPDATE leases SET expires_at = now() + interval '1 hour'")
            .execute(&pool)
            .await
            .unwrap();
        let (living, mut adopted) = process(&pool, TERMS, &["lane/test"]);
        assert_eq!(adopted.recv().await.unwrap().id, old.id);
        assert!(living.take_lease("test", "y").await.unwrap().is_some());
    });
}

#[test]
fn a_renewal_leaves_living_leases_to_their_holders() {
    run_test(async {
        let pool = create_control_database().await;
        let (a, mut taken_by_a) = process(&pool, TERMS, &["lane/test"]);
        let (b, mut taken_by_b) = process(&pool, TERMS, &["lane/test"]);
        let of_a = a.take_lease("lane/test", "a").await.unwrap().unwrap();
        let of_b = b.take_lease("lane/test", "b").await.unwrap().unwrap();
        let until = tokio::time::Instant::now() + TERMS.ttl * 3;
        while tokio::time::Instant::now() < until {
            assert!(
                taken_by_a.try_recv().is_err() && taken_by_b.try_recv().is_err(),
                "taken from the living"
            );
            fenced_write(&pool, of_a.clone()).await.unwrap();
            fenced_write(&pool, of_b.clone()).await.unwrap();
        }
    });
}
