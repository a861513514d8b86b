//! Hazard: a process crashes or is paused with jobs in work. Another process must continue them,
//! and late settlements of the old one must change nothing.

use std::time::Duration;

use queue::JobSettlement;
use store::testing::{create_control_database, run_test};
use store::{Error, LeaseOptions};

use crate::{PAUSED, TERMS, claim, enqueue, enqueue_for_anybody, job, process, settle, text};

#[test]
fn a_dead_processes_jobs_are_adopted_with_no_attempt_used_up() {
    run_test(async {
        let pool = create_control_database().await;
        let dead = process(&pool, PAUSED).await;
        enqueue(&pool, &dead, vec![job("in work"), job("waiting")]).await;
        let old = dead.claim(1).await.unwrap().remove(0);
        let living = process(&pool, TERMS).await;
        let mut adopted = Vec::new();
        while adopted.len() < 2 {
            adopted.extend(claim(&living, 10).await);
        }
        let mut names: Vec<String> = adopted.iter().map(text).collect();
        names.sort();
        assert_eq!(names, ["in work", "waiting"]);
        assert!(adopted.iter().all(|job| job.attempts == 0));

        let reason = "too late".to_owned();
        for settle_as in [JobSettlement::Complete, JobSettlement::Bury { reason }] {
            let refused = settle(&pool, vec![(old.clone(), settle_as)]).await;
            assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
        }
        let done = adopted.iter().map(|job| (job.clone(), JobSettlement::Complete)).collect();
        settle(&pool, done).await.unwrap();
        adopted.iter().for_each(|job| living.end_job(&job.lane, job.id));
        // An empty adopted lane is deleted.
        loop {
            living.claim(1).await.unwrap();
            let lanes: i64 = sqlx::query_scalar("SELECT count(*) FROM leases WHERE lease_id = $1")
                .bind(old.lane.id)
                .fetch_one(&pool)
                .await
                .unwrap();
            if lanes == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_paused_process_gets_a_new_lane_and_works_on() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let old = jobs.own_lane();
        sqlx::query(
            "UPDATE leases SET epoch = epoch + 1, owner = gen_random_uuid() WHERE lease_id = $1",
        )
        .bind(old.id)
        .execute(&pool)
        .await
        .unwrap();
        while jobs.own_lane().id == old.id {
            tokio::task::yield_now().await;
        }
        enqueue(&pool, &jobs, vec![job("new")]).await;
        assert_eq!(text(&claim(&jobs, 1).await[0]), "new");
    });
}

/// Hazard: the late end of an attempt under a lost epoch makes the same job claimable twice.
#[test]
fn the_end_of_an_attempt_leaves_the_mark_of_a_newer_epoch() {
    run_test(async {
        let pool = create_control_database().await;
        let terms = LeaseOptions { ttl: Duration::from_secs(60), ..TERMS };
        let jobs = process(&pool, terms).await;
        enqueue(&pool, &jobs, vec![job("once")]).await;
        let old = claim(&jobs, 1).await.remove(0);
        sqlx::query(
            "UPDATE leases SET epoch = epoch + 1, owner = gen_random_uuid(), expires_at = '-infinity'
             WHERE lease_id = $1",
        )
        .bind(old.lane.id)
        .execute(&pool)
        .await
        .unwrap();
        // The same process adopts the lane.
        let new = claim(&jobs, 1).await.remove(0);
        assert_eq!((new.id, new.lane.id), (old.id, old.lane.id));
        assert!(new.lane.epoch > old.lane.epoch);
        jobs.end_job(&old.lane, old.id);
        assert!(jobs.claim(1).await.unwrap().is_empty(), "the new attempt has the job");
        jobs.end_job(&new.lane, new.id);
        assert_eq!(claim(&jobs, 1).await[0].id, new.id);
    });
}

#[test]
fn jobs_for_anybody_reach_a_living_process_at_once() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        assert!(jobs.claim(1).await.unwrap().is_empty());
        for n in 0..20 {
            let before = tokio::time::Instant::now();
            enqueue_for_anybody(&pool, vec![job(&format!("{n}"))]).await;
            let claimed = claim(&jobs, 1).await;
            assert_eq!(text(&claimed[0]), format!("{n}"));
            assert!(
                before.elapsed() < Duration::from_millis(500),
                "woken, not polled: {:?}",
                before.elapsed()
            );
        }
    });
}

#[test]
fn jobs_enqueued_while_nobody_lives_wait_for_somebody() {
    run_test(async {
        let pool = create_control_database().await;
        let gone = process(&pool, TERMS).await;
        gone.release_lanes().await.unwrap();
        sqlx::query("UPDATE leases SET expires_at = '-infinity'").execute(&pool).await.unwrap();
        enqueue_for_anybody(&pool, vec![job("patient")]).await;
        let jobs = process(&pool, TERMS).await;
        assert_eq!(text(&claim(&jobs, 1).await[0]), "patient");
    });
}
