//! Hazard: a process keeps using types that have changed.

use std::time::{Duration, Instant};

use ledger::types::{LedgerTypeRegistry, TYPES_CHANNEL, keep_types_current};
use sqlx::PgPool;
use store::PgNotificationHub;
use store::testing::run_test;

use super::setup::{Run, account, counts, lock};

/// A process's type registry, refreshed in the background.
async fn kept(pool: &PgPool) -> LedgerTypeRegistry {
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![TYPES_CHANNEL]);
    let types = LedgerTypeRegistry::default();
    tokio::spawn(keep_types_current(pool.clone(), notifications, types.clone()));
    types
}

async fn until(
    types: &LedgerTypeRegistry,
    seen: impl Fn(&ledger::types::LedgerTypeCatalogue) -> bool,
) -> Duration {
    let started = Instant::now();
    while !seen(&types.current()) {
        assert!(started.elapsed() < Duration::from_secs(20), "never seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

#[test]
fn a_change_is_seen_within_a_second() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        let types = kept(&pool).await;
        assert_eq!(counts(&Run::on(&pool).of(&[account("a")]).await), [1, 0, 0, 0]);
        // The first change may arrive while the process is still connecting.
        until(&types, |now| now.accounts.contains_key("a")).await;
        let more =
            account("a").replace("groupings:", "  - {name: region, type: string}\ngroupings:");
        Run::on(&pool).of(&[more, lock("b")]).await;
        let took = until(&types, |now| {
            now.locks.contains_key("b") && now.accounts["a"].attributes.len() == 2
        })
        .await;
        assert!(took < Duration::from_secs(1), "{took:?}");
        Run::on(&pool).of(&[]).await;
        let took = until(&types, ledger::types::LedgerTypeCatalogue::is_empty).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn a_change_that_nobody_told_is_found() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        let types = kept(&pool).await;
        Run::on(&pool).of(&[account("a")]).await;
        until(&types, |now| now.len() == 1).await;
        sqlx::query("DELETE FROM ledger_types").execute(&pool).await.unwrap();
        let took = until(&types, ledger::types::LedgerTypeCatalogue::is_empty).await;
        assert!(took < Duration::from_secs(7), "{took:?}");
    });
}

#[test]
fn a_type_of_a_newer_program_is_left_out_and_never_overwritten() {
    run_test(async {
        let pool = store::testing::create_control_database().await;
        Run::on(&pool).of(&[account("a"), lock("b")]).await;
        sqlx::query(
            "UPDATE ledger_types SET definition = definition || '{\"new\": 1}' WHERE name = 'a'",
        )
        .execute(&pool)
        .await
        .unwrap();
        let now = ledger::types::load_types(&pool).await.unwrap();
        assert_eq!((now.accounts.len(), now.locks.len()), (0, 1));
        let report = Run::on(&pool).of(&[account("a"), lock("b")]).await;
        let error = report.outcomes[0].error.as_ref().unwrap().to_string();
        assert!(
            error.starts_with("the stored account type a cannot be read: unknown field `new`"),
            "{error}"
        );
    });
}
