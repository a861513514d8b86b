//! Hazard: a conformance kit that passes a faulty integration, or fails a correct one.

use std::sync::Arc;
use std::time::Duration;

use configurator::check::{
    IntegrationCheckEngine, IntegrationCheckOptions, IntegrationCheckOutcome, check_integration,
};
use configurator::sdk::{Env, IntegrationHandlers, IntegrationWorker};
use queue::fifo::FifoEngine;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use super::faulty_integration::{
    FaultyIntegration, IntegrationFault, SetHandler, check_options, checks_with_outcome,
};
use crate::emulator::{SqsEmulator, sqs_engine_at};

/// On SQS deletes are invisible, and the kit races the integration.
#[test]
fn on_sqs_the_sdk_passes_and_a_delete_before_the_answer_is_found() {
    run_test(async {
        let emulator = SqsEmulator::start().await;
        let engine: Arc<dyn FifoEngine> = Arc::new(emulator.engine().await);
        for (queue, env) in
            [("configshop", Env::Dev), ("q", Env::Dev), ("configshop", Env::Test), ("q", Env::Test)]
        {
            configurator::queues::ensure_integration_queue(engine.as_ref(), queue, env)
                .await
                .unwrap();
        }
        let checked = async |env| {
            let place = IntegrationCheckEngine::Sqs(Arc::new(sqs_engine_at(emulator.port).await));
            let plan = IntegrationCheckOptions {
                env,
                temporary_args: None,
                ..check_options(Duration::from_secs(20))
            };
            check_integration(place, plan, |_| {}).await.unwrap()
        };
        let host = IntegrationWorker::new(engine.clone());
        tokio::spawn(host.run(
            IntegrationHandlers::default().with_handler(SetHandler),
            "q",
            Env::Dev,
            CancellationToken::new(),
        ));
        let report = checked(Env::Dev).await;
        assert!(report.has_passed() && report.left_behind == 0, "{report:#?}");
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Skipped),
            ["temporary-error"]
        );
        let _own = FaultyIntegration::start(engine.as_ref(), IntegrationFault::DeletesFirst).await;
        let report = checked(Env::Test).await;
        assert_eq!(
            checks_with_outcome(&report, IntegrationCheckOutcome::Failed),
            ["answer-before-delete"],
            "{report:#?}"
        );
    });
}
