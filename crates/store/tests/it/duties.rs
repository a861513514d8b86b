//! Hazard: after its holder died, a process takes a duty's lease twice concurrently, keeps neither
//! grant, and the lease changes hands forever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::testing::{create_control_database, run_test};
use store::{DutyWork, LeaseOptions, run_duties};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TERMS: LeaseOptions =
    LeaseOptions { ttl: Duration::from_secs(1), renewal_interval: Duration::from_millis(100) };

#[test]
fn a_duty_whose_holder_died_stays_with_who_takes_it_over() {
    run_test(async {
        // Several runs in parallel: the race is not deterministic.
        futures::future::join_all((0..5).map(|_| taken_over_and_kept())).await;
    });
}

async fn taken_over_and_kept() {
    let pool = create_control_database().await;
    sqlx::query(
        "INSERT INTO leases (class, name, owner, expires_at) VALUES ('duty/work', 'work', gen_random_uuid(), '-infinity')",
    )
    .execute(&pool)
    .await
    .unwrap();
    let (begun, mut beginning) = watch::channel(0);
    let writing = pool.clone();
    let work: DutyWork = Arc::new(move |lease| {
        begun.send_modify(|times| *times += 1);
        let pool = writing.clone();
        Box::pin(async move {
            while lease.fence(&mut pool.acquire().await.unwrap()).await.is_ok() {
                tokio::time::sleep(TERMS.renewal_interval / 5).await;
            }
        })
    });
    let stop = CancellationToken::new();
    let doing = tokio::spawn(run_duties(
        pool.clone(),
        TERMS,
        HashMap::from([("work", work)]),
        stop.clone(),
    ));
    beginning.wait_for(|times| *times > 0).await.unwrap();
    // Long enough for several changes of hands.
    tokio::time::sleep(TERMS.ttl * 4).await;
    let epoch: i64 = sqlx::query_scalar("SELECT epoch >> 24 FROM leases WHERE name = 'work'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!((1..=2).contains(&epoch), "it changed hands {epoch} times");
    assert!((1..=2).contains(&*beginning.borrow()));
    stop.cancel();
    doing.await.unwrap();
}
