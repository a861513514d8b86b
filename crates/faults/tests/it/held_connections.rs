//! Held connections: neither side notices, and a released connection continues.

use std::time::Duration;

use faults::{Fault, FaultAction, FaultPoint, start_database_proxy};
use sqlx::{Connection as _, PgConnection};
use store::testing::{empty_database_options, run_test};
use tokio::time::timeout;

use crate::{connect_proxied, insert_row, read_rows};

const SHORT_WAIT: Duration = Duration::from_millis(100);

#[test]
fn a_swallowed_reply_leaves_the_client_waiting_though_all_is_done() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", FaultAction::HoldReply));
        let waiting = tokio::spawn(async move { insert_row(&mut through, 1).await });
        fault.wait_until_injected(1).await;
        assert_eq!(read_rows(&mut direct).await, [1]);
        assert!(!waiting.is_finished());
        assert_eq!(proxy.release_all(), 1);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn a_server_does_not_notice_that_a_silent_client_is_gone() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        let mut tx = through.begin().await.unwrap();
        insert_row(&mut tx, 1).await.unwrap();
        assert_eq!(proxy.hold_all(), 1);
        drop(tx);
        drop(through);
        tokio::time::sleep(SHORT_WAIT).await;
        let idle = "SELECT count(*) FROM pg_stat_activity
            WHERE state = 'idle in transaction' AND datname = current_database()";
        let idle: i64 = sqlx::query_scalar(idle).fetch_one(&mut direct).await.unwrap();
        assert_eq!((idle, proxy.connection_counts().held), (1, 1));
        drop(proxy);
        assert_eq!(read_rows(&mut direct).await, Vec::<i32>::new());
    });
}

#[test]
fn a_server_takes_no_new_connections() {
    run_test(async {
        let options = empty_database_options().await;
        let (options, proxy) = start_database_proxy(&options).await.unwrap();
        let refused =
            proxy.inject(Fault::new(FaultPoint::Connect, FaultAction::CutRequest).always());
        assert!(PgConnection::connect_with(&options).await.is_err());
        proxy.remove(refused.id);
        proxy.inject(Fault::new(FaultPoint::Connect, FaultAction::HoldReply));
        assert!(timeout(SHORT_WAIT, PgConnection::connect_with(&options)).await.is_err());
        PgConnection::connect_with(&options).await.unwrap();
        assert_eq!(proxy.connection_counts().made, 3);
    });
}
