//! The set of active faults, with their counters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::watch;

use crate::fault::{Action, Fault, Point};
use crate::frontend::Execution;

/// Counters of one fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Occurrences of the point since the injection.
    pub matched: u64,
    /// Faults that happened. A reply fault counts once the server's reply has arrived.
    pub injected: u64,
}

/// Handle of an injected fault; dropping it has no effect.
#[derive(Debug, Clone)]
pub struct Injection {
    /// Number within the proxy, from 1.
    pub id: u64,
    counts: watch::Sender<Counts>,
}

impl Injection {
    /// Current counters of the fault.
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the fault has happened `times` times.
    pub async fn happened(&self, times: u64) {
        // Cannot fail: `self` holds the sender.
        let _ = self.counts.subscribe().wait_for(|counts| counts.injected >= times).await;
    }

    pub(crate) fn count(&self) {
        self.counts.send_modify(|counts| counts.injected += 1);
    }
}

/// A fault chosen for one execution on one connection.
pub(crate) struct Hit {
    pub(crate) action: Action,
    pub(crate) injection: Injection,
}

#[derive(Default)]
pub(crate) struct Plan {
    armed: Mutex<Armed>,
}

#[derive(Default)]
struct Armed {
    last_id: u64,
    faults: Vec<ArmedFault>,
    /// Executions per named statement; bounded by the number of statement names in the programs.
    executed: BTreeMap<Arc<str>, u64>,
}

struct ArmedFault {
    fault: Fault,
    /// Times the fault was chosen; a reply fault happens later than it is chosen.
    chosen: u64,
    random: StdRng,
    injection: Injection,
}

impl Plan {
    pub(crate) fn inject(&self, fault: Fault) -> Injection {
        let mut armed = self.armed();
        armed.last_id += 1;
        let injection = Injection { id: armed.last_id, counts: watch::Sender::default() };
        let random = StdRng::seed_from_u64(fault.seed);
        armed.faults.push(ArmedFault { fault, chosen: 0, random, injection: injection.clone() });
        injection
    }

    pub(crate) fn remove(&self, id: u64) {
        self.armed().faults.retain(|armed| armed.injection.id != id);
    }

    pub(crate) fn injections(&self) -> Vec<Injection> {
        self.armed().faults.iter().map(|armed| armed.injection.clone()).collect()
    }

    pub(crate) fn executed(&self) -> BTreeMap<Arc<str>, u64> {
        self.armed().executed.clone()
    }

    /// Chooses the fault for this execution. Every matching fault counts the occurrence; the
    /// oldest due one wins.
    pub(crate) fn choose(&self, execution: &Execution) -> Option<Hit> {
        let mut hit = None;
        let mut guard = self.armed();
        let Armed { faults, executed, .. } = &mut *guard;
        if let Execution::Statement { names } = execution {
            for name in names {
                *executed.entry(name.clone()).or_default() += 1;
            }
        }
        for armed in faults {
            if is_at(&armed.fault.at, execution) && armed.is_due() && hit.is_none() {
                armed.chosen += 1;
                hit = Some(Hit { action: armed.fault.action, injection: armed.injection.clone() });
            }
        }
        hit
    }

    fn armed(&self) -> MutexGuard<'_, Armed> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArmedFault {
    fn is_due(&mut self) -> bool {
        let mut matched = 0;
        self.injection.counts.send_modify(|counts| {
            counts.matched += 1;
            matched = counts.matched;
        });
        matched > self.fault.skip
            && self.chosen < self.fault.times
            && (self.fault.rate >= 1.0 || self.random.random::<f64>() < self.fault.rate)
    }
}

fn contains_name(names: &[Arc<str>], name: &str) -> bool {
    names.iter().any(|each| **each == *name)
}

fn is_at(point: &Point, execution: &Execution) -> bool {
    match (point, execution) {
        (Point::Connect, Execution::Connect) | (Point::Commit, Execution::Commit { .. }) => true,
        (Point::Statement(name), Execution::Statement { names: executed }) => {
            contains_name(executed, name)
        }
        (Point::CommitOf(name), Execution::Commit { transaction }) => {
            contains_name(transaction, name)
        }
        _ => false,
    }
}
