//! Faults at the COMMIT of one particular transaction.

use faults::{Action, Fault, Point};
use sqlx::Connection as _;
use store::testing::run_test;

use crate::{proxied, write, written};

#[test]
fn the_answer_of_a_commit_is_lost() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        let fault = proxy.inject(Fault::at_commit_of("write", Action::CutReply));
        let mut other = through.begin().await.unwrap();
        sqlx::query("SELECT 1 -- read").execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
        let mut tx = through.begin().await.unwrap();
        write(&mut tx, 1).await.unwrap();
        assert!(tx.commit().await.is_err());
        assert_eq!(written(&mut direct).await, [1]);
        assert_eq!(fault.counts().injected, 1);
    });
}

#[test]
fn a_commit_never_reaches_the_server() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        proxy.inject(Fault::new(Point::Commit, Action::CutRequest));
        let mut tx = through.begin().await.unwrap();
        write(&mut tx, 1).await.unwrap();
        assert!(tx.commit().await.is_err());
        assert_eq!(written(&mut direct).await, Vec::<i32>::new());
    });
}
