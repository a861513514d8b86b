//! Cuts at a named statement: before execution or with the reply lost, at the n-th
//! execution or at random.

use faults::{Action, Counts, Fault, with_faults};
use sqlx::{Connection as _, PgConnection};
use store::testing::{empty_database_options, run_test};

use crate::{proxied, write, written};

#[test]
fn a_request_that_is_cut_is_not_carried_out() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", Action::CutRequest));
        assert!(write(&mut through, 1).await.is_err());
        assert_eq!(written(&mut direct).await, Vec::<i32>::new());
        assert_eq!(fault.counts(), Counts { matched: 1, injected: 1 });
    });
}

#[test]
fn a_reply_that_is_cut_belongs_to_a_statement_that_was_carried_out() {
    run_test(async {
        for action in [Action::CutReply, Action::CutReplyAfter(7)] {
            let (mut direct, mut through, proxy) = proxied().await;
            let fault = proxy.inject(Fault::at_statement("write", action));
            assert!(write(&mut through, 1).await.is_err());
            assert_eq!(written(&mut direct).await, [1]);
            assert_eq!(fault.counts().injected, 1);
        }
    });
}

#[test]
fn the_third_execution_of_a_prepared_statement_is_met() {
    run_test(async {
        let (mut direct, mut through, proxy) = proxied().await;
        let fault = proxy.inject(Fault::at_statement("write", Action::CutReply).skip(2));
        sqlx::query("SELECT 1 -- read").execute(&mut through).await.unwrap();
        write(&mut through, 1).await.unwrap();
        write(&mut through, 2).await.unwrap();
        assert!(write(&mut through, 3).await.is_err());
        assert_eq!(written(&mut direct).await, [1, 2, 3]);
        assert_eq!(fault.counts(), Counts { matched: 3, injected: 1 });
    });
}

#[test]
fn the_same_seed_breaks_the_same_statements() {
    run_test(async {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let options = empty_database_options().await;
            let (options, proxy) = with_faults(&options).await.unwrap();
            proxy.inject(Fault::at_statement("look", Action::CutReply).at_random(0.3, 42));
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
