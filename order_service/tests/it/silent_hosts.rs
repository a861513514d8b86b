//! Hazard: a process is paused, or its host dies without closing connections, during the
//! transaction that ends orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use faults::{Fault, FaultProxy, start_database_proxy};
use futures::future::BoxFuture;
use order_service::orders::db::OrderState::ProcessFinished;
use order_service::orders::db::{OrderAttempt, OrderAttemptOutcome};
use order_service::orders::pipeline::{StageAction, StageActions, StageError};
use store::PgPool;
use store::testing::{control_database_options, open_test_pool, open_test_pool_with, run_test};
use tokio::time::timeout;

use crate::harness::{OwnData, Process, proceed};

/// A pool through a proxy with `idle_in_transaction_session_timeout` of 200 ms, and a direct one.
async fn pools() -> (PgPool, PgPool, FaultProxy) {
    let options = control_database_options().await;
    let direct = open_test_pool(options.clone()).await;
    let (through, proxy) = start_database_proxy(&options).await.unwrap();
    let impatient = vec![("idle_in_transaction_session_timeout", "200".to_owned())];
    (open_test_pool_with(through, impatient).await, direct, proxy)
}

/// Fails at the first attempt.
struct FailsOnce(AtomicBool, OwnData);

impl StageAction for FailsOnce {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        if self.0.swap(true, Ordering::SeqCst) {
            return self.1.run(order);
        }
        Box::pin(std::future::ready(Err(StageError::Transient("not now".to_owned()))))
    }
}

#[test]
fn an_order_goes_on_though_its_process_was_stopped_while_it_was_settled() {
    run_test(async {
        let (through, direct, proxy) = pools().await;
        let external = Arc::new(FailsOnce(AtomicBool::new(false), OwnData::new(&direct)));
        let process =
            Process::working(&through, StageActions { external, ..proceed(&direct) }).await;
        // The server terminates the session meanwhile: SQLSTATE 25P03.
        let fault =
            proxy.inject(Fault::at_statement("wait_orders", faults::FaultAction::DelayMs(600)));
        process.accept(&[(1, 1)]).await.unwrap();
        assert_eq!(process.ended(1).await.state, ProcessFinished);
        assert!(fault.counts().matched > 1, "it was not repeated");
    });
}

#[test]
fn orders_of_a_host_that_died_while_it_settled_them_are_carried_on() {
    run_test(async {
        let (through, direct, proxy) = pools().await;
        let dead = Process::hanging(&through).await;
        dead.accept(&[(1, 1)]).await.unwrap();
        let work = dead.exits.next().await.unwrap().attempt;
        let fault =
            proxy.inject(Fault::at_statement("wait_orders", faults::FaultAction::HoldRequest));
        dead.ender.write(work, OrderAttemptOutcome::Failed { reason: "not now".to_owned() }).await;
        fault.wait_until_injected(1).await;
        proxy.hold_all();
        proxy.inject(
            Fault::new(faults::FaultPoint::Connect, faults::FaultAction::HoldRequest).always(),
        );
        // The dead transaction holds the row lock of its lane.
        let living = Process::working(&direct, proceed(&direct)).await;
        let ended = timeout(Duration::from_secs(5), living.ended(1)).await.unwrap();
        assert_eq!(ended.state, ProcessFinished);
    });
}
