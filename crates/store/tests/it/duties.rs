//! Hazard: one process takes a duty's lease twice at once, as its holder died before; then neither is kept, and it changes
//! hands for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use store::testing::{control_database, run};
use store::{LeaseTerms, Work, do_duties};
use tokio_util::sync::CancellationToken;

const TERMS: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(300), renew_every: Duration::from_millis(50) };

#[test]
fn a_duty_whose_holder_died_stays_with_who_takes_it_over() {
    run(async {
        for _ in 0..10 {
            let pool = control_database().await;
            sqlx::query(
                "INSERT INTO leases (class, name, owner, expires_at) VALUES ('duty/work', 'work', gen_random_uuid(), '-infinity')",
            )
            .execute(&pool)
            .await
            .unwrap();
            let begun = Arc::new(AtomicI64::new(0));
            let count = begun.clone();
            let writing = pool.clone();
            let work: Work = Arc::new(move |lease| {
                count.fetch_add(1, Ordering::Relaxed);
                let pool = writing.clone();
                Box::pin(async move {
                    while lease.fence(&mut pool.acquire().await.unwrap()).await.is_ok() {
                        tokio::time::sleep(TERMS.renew_every / 5).await;
                    }
                })
            });
            let stop = CancellationToken::new();
            let doing =
                tokio::spawn(do_duties(pool.clone(), TERMS, HashMap::from([("work", work)]), stop.clone()));
            tokio::time::sleep(TERMS.ttl * 4).await;
            let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM leases").fetch_one(&pool).await.unwrap();
            assert!((2..=3).contains(&epoch), "it has changed hands {epoch} times");
            assert!((1..=2).contains(&begun.load(Ordering::Relaxed)));
            stop.cancel();
            doing.await.unwrap();
        }
    });
}
