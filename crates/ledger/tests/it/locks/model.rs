//! Promise: for any sequence of acquisitions, releases and cancellations, the holders are those of
//! a reference model.

use std::collections::VecDeque;

use ledger::FencingToken;
use ledger::locks::{LockGrant, LockRefusal, LockRequest, LockService};
use ledger::sharding::LedgerShards;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::testing::run_test;
use tokio::task::JoinHandle;

use super::{caller, line_of, two, waiting, wanted};

/// Reference model, with callers by number.
#[derive(Default)]
struct Model {
    holders: Vec<(usize, bool)>,
    line: VecDeque<(usize, bool)>,
}

impl Model {
    fn admits(&self, exclusive: bool) -> bool {
        self.holders.is_empty() || (!exclusive && self.holders.iter().all(|(_, held)| !held))
    }

    /// Grants the lock to the next waiters; returns the new holders.
    fn settle(&mut self) -> Vec<usize> {
        let mut granted = Vec::new();
        while let Some((caller, exclusive)) = self.line.front().copied() {
            if !self.admits(exclusive) {
                break;
            }
            self.line.pop_front();
            self.holders.push((caller, exclusive));
            granted.push(caller);
        }
        granted
    }
}

/// Real callers, with the same numbers.
struct Callers {
    shards: LedgerShards,
    locks: [LockService; 2],
    waiting: Vec<Option<JoinHandle<Result<LockGrant, LockRefusal>>>>,
    held: Vec<Option<LockGrant>>,
    last_token: FencingToken,
}

impl Callers {
    /// Asserts that exactly these callers are granted the lock, in this order.
    async fn are_granted(&mut self, callers: Vec<usize>, left: usize) {
        line_of(&self.shards, left as i64).await;
        for caller in callers {
            let grant = self.waiting[caller].take().unwrap().await.unwrap().unwrap();
            assert!(grant.token > self.last_token, "tokens in the order of the line");
            self.last_token = grant.token;
            self.held[caller] = Some(grant);
        }
        assert!(self.waiting.iter().flatten().all(|caller| !caller.is_finished()));
    }
}

async fn play(shards: LedgerShards, locks: [LockService; 2], seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    let mut callers = Callers {
        shards,
        locks,
        waiting: Vec::new(),
        held: Vec::new(),
        last_token: FencingToken(0),
    };
    for _ in 0..60 {
        let (process, exclusive) =
            (callers.locks[random.random_range(0..2)].clone(), random.random_bool(0.4));
        match random.random_range(0..10) {
            0..5 => {
                let number = callers.waiting.len();
                model.line.push_back((number, exclusive));
                callers
                    .waiting
                    .push(Some(caller(&process, LockRequest { exclusive, ..waiting() })));
                callers.held.push(None);
            }
            5 => {
                let now = process.acquire(LockRequest { exclusive, ..wanted() }).await;
                assert_eq!(now.is_ok(), model.line.is_empty() && model.admits(exclusive));
                if let Ok(grant) = now {
                    callers.last_token = grant.token;
                    process.release(grant.lock_id).await.unwrap();
                }
            }
            6 if !model.line.is_empty() => {
                let place = random.random_range(0..model.line.len());
                let (number, _) = model.line.remove(place).unwrap();
                callers.waiting[number].take().unwrap().abort();
            }
            _ if !model.holders.is_empty() => {
                let place = random.random_range(0..model.holders.len());
                let (number, _) = model.holders.swap_remove(place);
                let grant = callers.held[number].take().unwrap();
                process.release(grant.lock_id).await.unwrap();
            }
            _ => {}
        }
        let granted = model.settle();
        callers.are_granted(granted, model.line.len()).await;
    }
}

#[test]
fn any_order_of_calls_goes_by_the_rules() {
    run_test(async {
        for _ in 0..4 {
            let seed = rand::random();
            println!("seed {seed}");
            let (shards, a, b) = two().await;
            play(shards, [a, b], seed).await;
        }
    });
}
