//! Hazard: `status` shows dead processes, omits live ones, or rows accumulate.

use order_service::serve::processes::{
    ProcessDescription, list_processes, refresh_process, run_heartbeat,
};
use order_service::settings::ProcessRole;
use sqlx::PgPool;
use store::testing::create_control_database;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn described(host: &str) -> ProcessDescription {
    ProcessDescription {
        host: host.to_owned(),
        ..ProcessDescription::of_this_process(&[ProcessRole::Grpc, ProcessRole::Retry])
    }
}

async fn hosts(pool: &PgPool) -> Vec<(String, bool)> {
    list_processes(pool)
        .await
        .unwrap()
        .into_iter()
        .map(|process| (process.host.clone(), process.is_alive()))
        .collect()
}

/// Moves the last heartbeat of a host into the past.
async fn silence(pool: &PgPool, host: &str, seconds: f64) {
    sqlx::query(
        "UPDATE processes SET seen_at = seen_at - make_interval(secs => $2) WHERE host = $1",
    )
    .bind(host)
    .bind(seconds)
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_process_is_known_from_its_start_to_its_end() {
    let pool = create_control_database().await;
    let stop = CancellationToken::new();
    let heartbeat = tokio::spawn(run_heartbeat(pool.clone(), described("a"), stop.clone()));
    while hosts(&pool).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let process = list_processes(&pool).await.unwrap().remove(0);
    assert_eq!(process.pid, std::process::id().cast_signed());
    assert_eq!(
        (process.version.as_str(), process.roles),
        (env!("CARGO_PKG_VERSION"), vec!["grpc".into(), "retry".into()])
    );
    stop.cancel();
    heartbeat.await.unwrap();
    assert_eq!(hosts(&pool).await, []);
}

#[tokio::test]
async fn one_that_was_killed_is_shown_as_silent_and_then_forgotten() {
    let pool = create_control_database().await;
    let (killed, living) = (Uuid::new_v4(), Uuid::new_v4());
    refresh_process(&pool, killed, &described("killed")).await.unwrap();
    refresh_process(&pool, living, &described("living")).await.unwrap();
    silence(&pool, "killed", 25.0).await;
    refresh_process(&pool, living, &described("living")).await.unwrap();
    assert_eq!(hosts(&pool).await, [("killed".to_owned(), false), ("living".to_owned(), true)]);
    silence(&pool, "killed", 600.0).await;
    refresh_process(&pool, living, &described("living")).await.unwrap();
    assert_eq!(hosts(&pool).await, [("living".to_owned(), true)]);
}

#[tokio::test]
async fn a_sign_of_life_changes_its_row_and_makes_no_other() {
    let pool = create_control_database().await;
    let id = Uuid::new_v4();
    for _ in 0..5 {
        refresh_process(&pool, id, &described("a")).await.unwrap();
    }
    assert_eq!(hosts(&pool).await.len(), 1);
}
