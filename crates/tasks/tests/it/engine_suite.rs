//! What every FIFO engine must do for schedulers and workers. Shared with the tests of the crate
//! `queue_sqs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::harness::{QUICK, World, told};

const TICKS: usize = 4;

/// Ticks of the schedule whose tasks succeeded.
async fn done(world: &World) -> Vec<(chrono::DateTime<chrono::Utc>, i64)> {
    let done = "SELECT tick, task_id FROM tasks WHERE schedule = 'each-second' AND status = 'succeeded' ORDER BY tick";
    sqlx::query_as(done).fetch_all(&world.pool).await.unwrap()
}

/// Two schedulers and two workers, one of which dies while running its first task.
pub async fn each_tick_is_done_once(world: World, stop: CancellationToken) {
    world.schedule("each-second", "* * * * * *", 0.0).await;
    let schedulers = [world.scheduler(QUICK, &stop), world.scheduler(QUICK, &stop)];
    let ((mortal, mut begun), (living, mut heard)) = (told(), told());
    let waiting = world.begin("wait").await;
    let dying = world.worker(&mortal, &CancellationToken::new());
    while begun.recv().await.unwrap().0 != waiting {}
    dying.abort();
    let _ = dying.await;
    living.go_on.add_permits(1);
    let worker = world.worker(&living, &stop);
    world.until(waiting, "succeeded").await;
    let done = loop {
        let done = done(&world).await;
        if done.len() >= TICKS {
            break done;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    stop.cancel();
    for task in schedulers.into_iter().chain([worker]) {
        task.await.unwrap();
    }
    let second = chrono::TimeDelta::seconds(1);
    assert!(done.windows(2).all(|pair| pair[1].0 - pair[0].0 == second), "{done:?}");
    let tasks: BTreeSet<i64> = done.iter().map(|(_, task_id)| *task_id).collect();
    assert_eq!(tasks.len(), done.len(), "a task for each tick");
    let mut attempts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    while let Ok((task_id, attempt)) = heard.try_recv() {
        attempts.entry(task_id).or_default().push(attempt);
    }
    assert_eq!(attempts[&waiting], [2], "after the dead one's");
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}: once each");
}
