//! Faults at the COMMIT of one particular transaction.

use faults::{Fault, FaultAction, FaultPoint};
use sqlx::Connection as _;
use store::testing::run_test;

use crate::{connect_proxied, insert_row, read_rows};

#[test]
fn the_answer_of_a_commit_is_lost() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        let fault = proxy.inject(Fault::at_commit_of("write", FaultAction::CutReply));
        let mut other = through.begin().await.unwrap();
        sqlx::query("SELECT 1 -- read").execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
        let mut tx = through.begin().await.unwrap();
        insert_row(&mut tx, 1).await.unwrap();
        assert!(tx.commit().await.is_err());
        assert_eq!(read_rows(&mut direct).await, [1]);
        assert_eq!(fault.counts().injected, 1);
    });
}

#[test]
fn a_commit_never_reaches_the_server() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        proxy.inject(Fault::new(FaultPoint::Commit, FaultAction::CutRequest));
        let mut tx = through.begin().await.unwrap();
        insert_row(&mut tx, 1).await.unwrap();
        assert!(tx.commit().await.is_err());
        assert_eq!(read_rows(&mut direct).await, Vec::<i32>::new());
    });
}
