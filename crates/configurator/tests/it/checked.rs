//! Hazard: a conformance kit that passes a faulty integration, or fails a correct one.

use std::time::Duration;

use configurator::check::{
    IntegrationCheckEngine, IntegrationCheckOptions, IntegrationCheckOutcome,
    IntegrationCheckReport, check_integration,
};
use configurator::sdk::{Env, IntegrationHandlers, IntegrationOptions, IntegrationWorker};
use queue::fifo::{FIFO_CHANNEL, PgFifo};
use store::PgNotificationHub;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use super::faulty_integration::{
    FaultyIntegration, IntegrationFault, SetHandler, check_options, checks_with_outcome,
};
use super::harness::{ConfiguratorHarness, TEST_TIMEOUT};

async fn check_report(
    world: &ConfiguratorHarness,
    plan: IntegrationCheckOptions,
) -> IntegrationCheckReport {
    let pool = &world.configurator.pool;
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![FIFO_CHANNEL]);
    let place = IntegrationCheckEngine::Postgres(PgFifo::new(pool.clone(), notifications));
    check_integration(place, plan, |_| {}).await.unwrap()
}

/// The number of messages in the integration's queue.
async fn tasks(world: &ConfiguratorHarness) -> i64 {
    let count = "SELECT count(*) FROM fifo_messages m JOIN fifo_queues q USING (queue_id) WHERE q.name = 'q-test.fifo'";
    sqlx::query_scalar(count).fetch_one(&world.configurator.pool).await.unwrap()
}

async fn until_nothing_is_left(world: &ConfiguratorHarness) {
    let by_then = tokio::time::Instant::now() + TEST_TIMEOUT;
    while tasks(world).await > 0 {
        assert!(
            tokio::time::Instant::now() < by_then,
            "messages of the checks are left in the queue"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_sdk_keeps_to_the_protocol_also_where_a_configurator_is_at_work() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let (_role, _stop) = world.start();
        // From this run on, answers are received in this environment.
        let empty = "type: module\nname: global\nblocks: []\n";
        world.run("t", empty).await;
        let terms = IntegrationOptions {
            retry_delay: Duration::from_millis(50),
            ..IntegrationOptions::default()
        };
        let host = IntegrationWorker::new(world.engine.clone()).with_options(terms);
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Test,
            CancellationToken::new(),
        ));
        let report = check_report(&world, check_options(Duration::from_secs(20))).await;
        assert!(report.has_passed(), "{report:#?}");
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
            Vec::<&str>::new()
        );
        assert_eq!(report.count_outcome(IntegrationCheckOutcome::Ok), 16);
        assert_eq!(report.left_behind, 0);
    });
}

#[test]
fn what_needs_no_task_is_checked_without_one() {
    run_test(async {
        let world = ConfiguratorHarness::fresh().await;
        let host = IntegrationWorker::new(world.engine.clone());
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Test,
            CancellationToken::new(),
        ));
        let plan = IntegrationCheckOptions {
            task: None,
            permanent_args: None,
            temporary_args: None,
            ..check_options(Duration::from_secs(20))
        };
        let report = check_report(&world, plan).await;
        assert!(report.has_passed(), "{report:#?}");
        let skipped =
            ["idempotent", "late-message", "permanent-error", "temporary-error", "delete"];
        assert_eq!(checks_with_outcome(&report, IntegrationCheckOutcome::Skipped), skipped);
    });
}

/// Each fault is found by the checks that target it, and by no other.
#[test]
fn seeded_faults_are_found() {
    run_test(async {
        let table: [(IntegrationFault, &[&str]); 11] = [
            (IntegrationFault::None, &[]),
            (IntegrationFault::IgnoresBadJson, &["malformed-body"]),
            (IntegrationFault::DeletesFirst, &["answer-before-delete"]),
            (IntegrationFault::CountsCalls, &["idempotent", "duplicate-delivery", "late-message"]),
            (IntegrationFault::BlocksItsGroup, &["no-block-id"]),
            (IntegrationFault::DiesOfBadJson, &["malformed-body"]),
            (IntegrationFault::AnswersForNow, &["temporary-error"]),
            (IntegrationFault::ForgetsWhatFails, &["temporary-error"]),
            (IntegrationFault::SaysNoCode, &["answer-format"]),
            (IntegrationFault::Overtakes, &["group-order"]),
            (IntegrationFault::NeverDeletes, &["group-order", "answer-before-delete"]),
        ];
        // Concurrent, each on separate queues: the tests mostly wait.
        let running: Vec<_> = table
            .into_iter()
            .map(|(fault, expected)| {
                tokio::spawn(async move {
                    let world = ConfiguratorHarness::fresh().await;
                    let integration = FaultyIntegration::start(world.engine.as_ref(), fault).await;
                    let report = check_report(&world, check_options(Duration::from_secs(6))).await;
                    let failed = checks_with_outcome(&report, IntegrationCheckOutcome::Failed);
                    for name in expected {
                        assert!(failed.contains(name), "{fault:?}: {report:#?}");
                    }
                    if fault != IntegrationFault::NeverDeletes {
                        assert_eq!(failed, *expected, "{fault:?}: {report:#?}");
                    }
                    let skipped: &[&str] = match fault {
                        IntegrationFault::DiesOfBadJson => {
                            &["no-block-id", "delete", "answer-format"]
                        }
                        _ => &[],
                    };
                    if fault != IntegrationFault::NeverDeletes {
                        assert_eq!(
                            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
                            skipped,
                            "{fault:?}: {report:#?}"
                        );
                        assert_eq!(report.left_behind, 0, "{fault:?}: {report:#?}");
                        until_nothing_is_left(&world).await;
                    }
                    integration.abort();
                })
            })
            .collect();
        for one in running {
            one.await.unwrap();
        }
    });
}
