//! Promise: a lock ends on release or expiry, the next waiter gets it immediately, and an ended
//! lock is never revived.

use std::time::{Duration, Instant};

use chrono::Utc;
use ledger::locks::{LockRefusal, LockRequest};
use store::testing::run_test;

use super::{LONG, caller, line_of, two, waiting, wanted};

const SHORT: Duration = Duration::from_millis(300);
/// Below the one-second heartbeat that finds missed expiries.
const ON_TIME: chrono::TimeDelta = chrono::TimeDelta::milliseconds(500);

fn short(wanted: LockRequest) -> LockRequest {
    LockRequest { ttl: SHORT, ..wanted }
}

#[test]
fn the_lock_of_a_holder_that_is_gone_goes_on_time() {
    run_test(async {
        let (_shards, a, b) = two().await;
        // To a caller of the same process, then of the other one.
        let mut held = a.acquire(short(wanted())).await.unwrap();
        for next in [&a, &b, &b] {
            let grant = next.acquire(short(waiting())).await.unwrap();
            let late = Utc::now() - held.expires_at;
            assert!(late >= chrono::TimeDelta::zero() && late < ON_TIME, "{late}");
            assert!(grant.token > held.token);
            held = grant;
        }
    });
}

#[test]
fn a_short_lock_in_the_middle_of_the_line_goes_on_time() {
    run_test(async {
        let (shards, a, b) = two().await;
        let long = a.acquire(wanted()).await.unwrap();
        let short = caller(&b, short(waiting()));
        line_of(&shards, 1).await;
        let last = caller(&a, waiting());
        line_of(&shards, 2).await;
        a.release(long.lock_id).await.unwrap();
        // Its holder stays silent.
        let short = short.await.unwrap().unwrap();
        let last = last.await.unwrap().unwrap();
        let late = Utc::now() - short.expires_at;
        assert!(late >= chrono::TimeDelta::zero() && late < ON_TIME, "{late}");
        assert!(last.token > short.token);
    });
}

#[test]
fn an_extension_moves_the_expiry_for_those_who_wait() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(short(wanted())).await.unwrap();
        let next = caller(&b, waiting());
        line_of(&shards, 1).await;
        let extended = b.extend(held.lock_id, SHORT * 3).await.unwrap();
        assert_eq!((extended.lock_id, extended.token), (held.lock_id, held.token));
        assert!(extended.expires_at > held.expires_at);
        // Shortening the TTL also reaches the waiters.
        let extended = a.extend(held.lock_id, LONG).await.unwrap();
        let shortened = b.extend(held.lock_id, SHORT).await.unwrap();
        assert!(shortened.expires_at < extended.expires_at);
        next.await.unwrap().unwrap();
        let late = Utc::now() - shortened.expires_at;
        assert!(late >= chrono::TimeDelta::zero() && late < ON_TIME, "{late}");
    });
}

#[test]
fn a_release_hands_over_at_once_to_another_process() {
    run_test(async {
        let (shards, a, b) = two().await;
        let (mut held, mut took) = (a.acquire(wanted()).await.unwrap(), Vec::new());
        for turn in 0..21 {
            let (from, to) = if turn % 2 == 0 { (&a, &b) } else { (&b, &a) };
            let next = caller(to, waiting());
            line_of(&shards, 1).await;
            let released = Instant::now();
            from.release(held.lock_id).await.unwrap();
            held = next.await.unwrap().unwrap();
            took.push(released.elapsed());
        }
        took.sort_unstable();
        println!(
            "from release to grant in another process: median {:?}, longest {:?}",
            took[10], took[20]
        );
        assert!(took[10] < Duration::from_millis(100));
    });
}

#[test]
fn what_has_ended_never_lives_again() {
    run_test(async {
        let (_shards, a, b) = two().await;
        let released = a.acquire(wanted()).await.unwrap();
        b.release(released.lock_id).await.unwrap();
        let expired = b.acquire(short(wanted())).await.unwrap();
        while b.get_lock(expired.lock_id).await.unwrap().unwrap().alive {
            tokio::task::yield_now().await;
        }
        assert_ne!(released.lock_id, expired.lock_id);
        for locks in [&a, &b] {
            for ended in [released, expired] {
                assert!(matches!(locks.extend(ended.lock_id, LONG).await, Err(LockRefusal::Ended)));
                assert!(matches!(locks.release(ended.lock_id).await, Err(LockRefusal::Ended)));
                let seen = locks.get_lock(ended.lock_id).await.unwrap().unwrap();
                assert_eq!((seen.alive, seen.token), (false, ended.token));
            }
            let unknown = uuid::Uuid::from_u64_pair(expired.lock_id.as_u64_pair().0, 1);
            assert!(matches!(locks.extend(unknown, LONG).await, Err(LockRefusal::Unknown)));
            assert!(matches!(locks.release(unknown).await, Err(LockRefusal::Unknown)));
            assert_eq!(locks.get_lock(unknown).await.unwrap(), None);
        }
        let new = a.acquire(wanted()).await.unwrap();
        assert!(
            new.token > expired.token
                && ![released.lock_id, expired.lock_id].contains(&new.lock_id)
        );
    });
}

#[test]
fn ended_locks_are_forgotten_after_a_day() {
    run_test(async {
        let (shards, a, _b) = two().await;
        let pool = &shards.shard_of_hash(super::of(7).shard_hash).pool;
        for _ in 0..10 {
            let held = a.acquire(wanted()).await.unwrap();
            a.release(held.lock_id).await.unwrap();
        }
        // Three were released, and three expired without later requests for them.
        let aged = "UPDATE locks SET expires_at = expires_at - interval '25 hours', state = CASE place % 2 WHEN 0 THEN 'e' ELSE 'h' END
                    WHERE place IN (SELECT place FROM locks ORDER BY place LIMIT 6)";
        sqlx::query("UPDATE locks SET exclusive = false").execute(pool).await.unwrap();
        sqlx::query(aged).execute(pool).await.unwrap();
        for _ in 0..2 {
            a.acquire(LockRequest { target: super::of(7), exclusive: false, ..wanted() })
                .await
                .unwrap();
        }
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM locks").fetch_one(pool).await.unwrap();
        assert_eq!(left, 6);
    });
}
