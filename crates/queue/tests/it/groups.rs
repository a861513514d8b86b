//! Hazard: two jobs of a group run concurrently or out of order, or a poison job
//! blocks its group forever.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue::{Backoff, Job, JobHandler, JobOutcome, JobWorker, JobWorkerOptions, NewJob};
use store::testing::{create_control_database, run_test};
use tokio::sync::mpsc;

use crate::{TERMS, enqueue, enqueue_for_anybody, job, process, text};

const QUICK: JobWorkerOptions = JobWorkerOptions {
    concurrency: 8,
    backoff: Backoff {
        first_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(20),
        jitter: 0.2,
    },
    max_attempts: 3,
};

/// Records running groups and completed jobs; fails jobs named poison.
struct Journal {
    running: Mutex<Vec<String>>,
    ended: mpsc::UnboundedSender<String>,
}

impl JobHandler for Journal {
    async fn handle(&self, job: &Job) -> JobOutcome {
        let group = job.group.clone().unwrap_or_default();
        {
            let mut running = self.running.lock().unwrap();
            assert!(!running.contains(&group), "two jobs of {group} at once");
            running.push(group.clone());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.running.lock().unwrap().retain(|name| *name != group);
        if text(job).starts_with("poison") {
            return JobOutcome::Failed("poison".to_owned());
        }
        self.ended.send(text(job)).unwrap();
        JobOutcome::Done
    }
}

#[test]
fn a_group_runs_in_order_one_at_a_time_past_its_poison() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let (ended, mut journal) = mpsc::unbounded_channel();
        let handler = Arc::new(Journal { running: Mutex::default(), ended });
        let grouped =
            |group: &str, name: String| NewJob { group: Some(group.to_owned()), ..job(&name) };
        for n in 0..10 {
            let name = if n == 4 { "poison".to_owned() } else { format!("a{n}") };
            enqueue(&pool, &jobs, vec![grouped("a", name), grouped("b", format!("b{n}"))]).await;
        }
        enqueue_for_anybody(&pool, (10..20).map(|n| grouped("a", format!("a{n}"))).collect()).await;
        let worker = JobWorker::start(jobs.clone(), handler, QUICK);
        let mut seen = Vec::new();
        while seen.len() < 29 {
            seen.push(journal.recv().await.unwrap());
        }
        for group in ["a", "b"] {
            let of_group: Vec<&String> =
                seen.iter().filter(|name| name.starts_with(group)).collect();
            let mut sorted = of_group.clone();
            sorted.sort_by_key(|name| name[1..].parse::<u32>().unwrap());
            assert_eq!(of_group, sorted);
        }
        worker.stop().await;
        let dead: (String, i32) = sqlx::query_as("SELECT reason, attempts FROM dead_jobs")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(dead, ("poison".to_owned(), 3));
    });
}

#[test]
fn a_job_left_out_for_its_key_blocks_nobody() {
    run_test(async {
        let pool = create_control_database().await;
        let jobs = process(&pool, TERMS).await;
        let new = |key: &str, group: Option<&str>| NewJob {
            key: Some(key.to_owned()),
            group: group.map(str::to_owned),
            ..job(key)
        };
        enqueue(&pool, &jobs, vec![new("k1", None)]).await;
        enqueue(&pool, &jobs, vec![new("k1", Some("g")), new("k2", Some("g"))]).await;
        let names: Vec<String> = jobs.claim(10).await.unwrap().iter().map(text).collect();
        assert_eq!(names, ["k1", "k2"]);
    });
}
