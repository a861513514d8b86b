//! Hazard: many clients write history concurrently into months without partitions. Each call
//! creates its partitions in turn, and the last ones are refused with a misleading reason.

use std::time::Instant;

use futures::future::join_all;
use store::testing::run_test;

use super::{event, storage};
use crate::harness::Served;

const CLIENTS: i32 = 48;
/// Months per client, all different.
const MONTHS: i32 = 8;

#[test]
fn many_who_write_into_new_months_are_all_answered() {
    run_test(async {
        let served = Served::fresh().await;
        let storage = storage(&served);
        let began = Instant::now();
        let clients = (0..CLIENTS).map(|client| {
            let served = served.clone();
            async move {
                for n in 0..MONTHS {
                    let month = n * CLIENTS + client;
                    let dt = format!("{}-{:02}-10T00:00:00Z", 1980 + month / 12, month % 12 + 1);
                    let (status, answer) = served.write(&[event(&dt, storage, &dt, 1, "1")]).await;
                    assert_eq!(status, 200, "{dt}: {answer:?}");
                }
            }
        });
        join_all(clients).await;
        println!("{} months made in {:?}", CLIENTS * MONTHS, began.elapsed());
        assert_eq!(served.events().await, i64::from(CLIENTS * MONTHS));
    });
}
