//! Cuts at a named statement: before execution or with the reply lost, at the n-th
//! execution or at random.

use faults::{Fault, FaultAction, FaultCounts, start_database_proxy};
use sqlx::{Connection as _, PgConnection};
use store::testing::{empty_database_options, run_test};

use crate::{connect_proxied, insert_row, read_rows};

#[test]
fn a_request_that_is_cut_is_not_carried_out() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", FaultAction::CutRequest));
        assert!(insert_row(&mut through, 1).await.is_err());
        assert_eq!(read_rows(&mut direct).await, Vec::<i32>::new());
        assert_eq!(fault.counts(), FaultCounts { matched: 1, injected: 1 });
    });
}

#[test]
fn a_reply_that_is_cut_belongs_to_a_statement_that_was_carried_out() {
    run_test(async {
        for action in [FaultAction::CutReply, FaultAction::CutReplyAfter(7)] {
            let (mut direct, mut through, proxy) = connect_proxied().await;
            let fault = proxy.inject(Fault::at_statement("write", action));
            assert!(insert_row(&mut through, 1).await.is_err());
            assert_eq!(read_rows(&mut direct).await, [1]);
            assert_eq!(fault.counts().injected, 1);
        }
    });
}

#[test]
fn the_third_execution_of_a_prepared_statement_is_met() {
    run_test(async {
        let (mut direct, mut through, proxy) = connect_proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", FaultAction::CutReply).skip(2));
        sqlx::query("SELECT 1 -- read").execute(&mut through).await.unwrap();
        insert_row(&mut through, 1).await.unwrap();
        insert_row(&mut through, 2).await.unwrap();
        assert!(insert_row(&mut through, 3).await.is_err());
        assert_eq!(read_rows(&mut direct).await, [1, 2, 3]);
        assert_eq!(fault.counts(), FaultCounts { matched: 3, injected: 1 });
    });
}

#[test]
fn the_same_seed_breaks_the_same_statements() {
    run_test(async {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let options = empty_database_options().await;
            let (options, proxy) = start_database_proxy(&options).await.unwrap();
            proxy.inject(Fault::at_statement("look", FaultAction::CutReply).at_random(0.3, 42));
            let mut broken = Vec::new();
            let mut through = PgConnection::connect_with(&options).await.unwrap();
            for n in 0..50 {
                if sqlx::query("SELECT 1 -- look").execute(&mut through).await.is_err() {
                    broken.push(n);
                    through = PgConnection::connect_with(&options).await.unwrap();
                }
            }
            runs.push(broken);
        }
        assert_eq!(runs[0], runs[1]);
        assert!((5..30).contains(&runs[0].len()), "{runs:?}");
    });
}
