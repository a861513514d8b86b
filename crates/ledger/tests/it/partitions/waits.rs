//! Hazard: maintenance waits for a long transaction and blocks everyone queued behind its lock; or
//! events written meanwhile are dropped with the month and are in no sum.

use std::time::{Duration, Instant};

use sqlx::Connection as _;
use store::testing::run_test;

use super::{Running, event, maintained, month, shard, storage};

/// Limit for blocked calls: the promised 100 ms, plus a busy machine.
const MOST: Duration = Duration::from_millis(600);
/// A call that waits for the endless reader takes longer than any slow machine explains.
const LONG: Duration = Duration::from_secs(3);

#[test]
fn nobody_waits_for_a_maintenance_that_waits_for_a_long_reader() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        super::write_present(&served).await;
        served.write(&[event("old", storage, "2015-01-01T00:00:00Z", 1, "1")]).await;
        running.settled().await;
        // A read transaction that stays open for as long as the test needs.
        let mut reader = shard(&served).pool.acquire().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *reading)
            .await
            .unwrap();
        sqlx::query("SELECT count(*) FROM events").execute(&mut *reading).await.unwrap();

        let maintaining = tokio::spawn({
            let served = served.clone();
            async move { maintained(&served).await }
        });
        let (mut slowest, mut calls) = (Duration::ZERO, 0);
        while !maintaining.is_finished() {
            let began = Instant::now();
            let dt = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            let (status, written) =
                served.write(&[event(&format!("new {calls}"), storage, &dt, 1, "1")]).await;
            assert_eq!(status, 200, "{written:?}");
            let path = format!(
                "/v1/balances/storage_outflow?storage_id={storage}&at=2035-01-01T00:00:00Z"
            );
            assert_eq!(served.get(&path).await.1["groups"][0]["debit"], (calls + 2).to_string());
            slowest = slowest.max(began.elapsed());
            calls += 1;
        }
        let done = maintaining.await.unwrap();
        assert_eq!((done.dropped.len(), done.retained.len()), (0, 1));
        assert_eq!(done.retained[0].reason, "it is in use");
        println!(
            "{calls} writes and reads beside 25 tries for the lock; the slowest pair took {slowest:?}"
        );
        assert!(calls > 10 && slowest < MOST, "{calls} calls, {slowest:?}");

        reading.rollback().await.unwrap();
        drop(reader);
        running.settled().await;
        assert_eq!(maintained(&served).await.dropped, [month("2015-01")]);
        running.stop().await;
    });
}

#[test]
fn what_comes_while_a_maintenance_waits_is_not_lost() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let pool = shard(&served).pool;
        super::write_present(&served).await;
        served.write(&[event("old", storage, "2015-01-01T00:00:00Z", 1, "1")]).await;
        running.settled().await;
        let mut reader = pool.acquire().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *reading)
            .await
            .unwrap();
        sqlx::query("SELECT count(*) FROM events").execute(&mut *reading).await.unwrap();
        let maintaining = tokio::spawn({
            let served = served.clone();
            async move { maintained(&served).await }
        });
        // It has summed up the month, and its lock attempt timed out.
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND query LIKE '%drop_event_month(%' AND wait_event = 'PgSleep')";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        served.write(&[event("late", storage, "2015-01-02T00:00:00Z", 1, "10")]).await;
        running.settled().await;
        assert!(!maintaining.is_finished(), "it waited long enough");
        reading.rollback().await.unwrap();
        drop(reader);
        let done = maintaining.await.unwrap();
        assert!(
            done.dropped.is_empty() && done.retained[0].reason == "it is being written to",
            "{done:?}"
        );
        for dropped in [vec![month("2015-01")], vec![]] {
            let path = format!("/v1/balances/storage_outflow?storage_id={storage}");
            assert_eq!(served.get(&path).await.1["groups"][0]["debit"], "11");
            assert_eq!(maintained(&served).await.dropped, dropped);
        }
        running.stop().await;
    });
}

#[test]
fn nobody_waits_for_a_month_that_waits_for_a_long_reader() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let pool = shard(&served).pool;
        let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        assert_eq!(served.write(&[event("first", storage, &now, 1, "1")]).await.0, 200);
        let mut reader = pool.acquire().await.unwrap();
        let mut reading = reader.begin().await.unwrap();
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *reading)
            .await
            .unwrap();
        sqlx::query("SELECT * FROM list_events(1, now(), now(), null, null, 1)")
            .execute(&mut *reading)
            .await
            .unwrap();

        let writing = tokio::spawn({
            let served = served.clone();
            let old = |id: &str| event(id, storage, "2015-01-01T00:00:00Z", 1, "1");
            let (alone, beside) = (old("alone"), [old("beside")]);
            async move {
                let batch = serde_json::json!({"events": [alone]});
                let both = tokio::join!(served.post("/v1/batch", &batch), served.write(&beside));
                (both.0.0, both.1.0)
            }
        });
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND query LIKE '%create_event_months(%' AND wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut slowest = Duration::ZERO;
        for call in 0..10 {
            let began = Instant::now();
            assert_eq!(
                served.write(&[event(&format!("new {call}"), storage, &now, 1, "1")]).await.0,
                200
            );
            let path = format!(
                "/v1/balances/storage_outflow?storage_id={storage}&at=2035-01-01T00:00:00Z"
            );
            assert_eq!(served.get(&path).await.1["groups"][0]["debit"], (call + 2).to_string());
            slowest = slowest.max(began.elapsed());
        }
        println!("the slowest pair took {slowest:?}");
        assert!(slowest < LONG, "{slowest:?}");
        assert!(!writing.is_finished(), "it waits for the reader");
        reading.rollback().await.unwrap();
        drop(reader);
        assert_eq!(writing.await.unwrap(), (200, 200));
        running.stop().await;
    });
}

/// Hazard: a client pauses before committing a transaction that attached a partition.
#[test]
fn a_transaction_that_is_left_open_with_a_new_month_holds_nobody_up_for_long() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let mut paused = shard(&served).pool.acquire().await.unwrap();
        let mut left_open = paused.begin().await.unwrap();
        sqlx::query("SELECT create_event_months('{2016-05-01T00:00:00Z}', false)")
            .execute(&mut *left_open)
            .await
            .unwrap();
        let began = Instant::now();
        let path = format!("/v1/balances/storage_outflow?storage_id={storage}");
        assert_eq!(served.get(&path).await.0, 200);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(left_open.commit().await.is_err(), "it was ended");
        running.stop().await;
    });
}
