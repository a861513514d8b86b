//! Held connections: neither side notices, and a released connection continues.

use std::time::Duration;

use faults::{Action, Fault, Point, with_faults};
use sqlx::{Connection as _, PgConnection};
use store::testing::{empty_database_options, run_test};
use tokio::time::timeout;

use crate::{proxied, write, written};

const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn a_swallowed_reply_leaves_the_client_waiting_though_all_is_done() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", Action::HoldReply));
        let waiting = tokio::spawn(async move { write(&mut through, 1).await });
        fault.happened(1).await;
        assert_eq!(written(&mut direct).await, [1]);
        assert!(!waiting.is_finished());
        assert_eq!(proxy.release_all(), 1);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn a_server_does_not_notice_that_a_silent_client_is_gone() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        let mut tx = through.begin().await.unwrap();
        write(&mut tx, 1).await.unwrap();
        assert_eq!(proxy.hold_all(), 1);
        drop(tx);
        drop(through);
        tokio::time::sleep(A_WHILE).await;
        let idle = "SELECT count(*) FROM pg_stat_activity
            WHERE state = 'idle in transaction' AND datname = current_database()";
        let idle: i64 = sqlx::query_scalar(idle).fetch_one(&mut direct).await.unwrap();
        assert_eq!((idle, proxy.connections().held), (1, 1));
        drop(proxy);
        assert_eq!(written(&mut direct).await, Vec::<i32>::new());
    });
}

#[test]
fn a_server_takes_no_new_connections() {
    run_test(async {
        let options = empty_database_options().await;
        let (options, proxy) = with_faults(&options).await.unwrap();
        let refused = proxy.inject(Fault::new(Point::Connect, Action::CutRequest).always());
        assert!(PgConnection::connect_with(&options).await.is_err());
        proxy.remove(refused.id);
        proxy.inject(Fault::new(Point::Connect, Action::HoldReply));
        assert!(timeout(A_WHILE, PgConnection::connect_with(&options)).await.is_err());
        PgConnection::connect_with(&options).await.unwrap();
        assert_eq!(proxy.connections().made, 3);
    });
}
