//! The set of active faults, with their counters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::sync::watch;

use crate::fault::{Fault, FaultAction, FaultPoint};
use crate::frontend::FrontendRequest;

/// Counters of one fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    /// Occurrences of the point since the injection.
    pub matched: u64,
    /// Faults that happened. A reply fault counts once the server's reply has arrived.
    pub injected: u64,
}

/// Handle of an injected fault; dropping it has no effect.
#[derive(Debug, Clone)]
pub struct FaultInjection {
    /// Number within the proxy, from 1.
    pub id: u64,
    counts: watch::Sender<FaultCounts>,
}

impl FaultInjection {
    /// Current counters of the fault.
    pub fn counts(&self) -> FaultCounts {
        *self.counts.borrow()
    }

    /// Waits until the fault has happened `times` times.
    pub async fn wait_until_injected(&self, times: u64) {
        // Cannot fail: `self` holds the sender.
        let _ = self.counts.subscribe().wait_for(|counts| counts.injected >= times).await;
    }

    pub(crate) fn count_injection(&self) {
        self.counts.send_modify(|counts| counts.injected += 1);
    }
}

/// A fault chosen for one execution on one connection.
pub(crate) struct ChosenFault {
    pub(crate) action: FaultAction,
    pub(crate) injection: FaultInjection,
}

#[derive(Default)]
pub(crate) struct FaultPlan {
    state: Mutex<FaultPlanState>,
}

#[derive(Default)]
struct FaultPlanState {
    last_id: u64,
    faults: Vec<ArmedFault>,
    /// Executions per named statement; bounded by the number of statement names in the programs.
    execution_counts: BTreeMap<Arc<str>, u64>,
}

struct ArmedFault {
    fault: Fault,
    /// Times the fault was chosen; a reply fault happens later than it is chosen.
    chosen_count: u64,
    random: StdRng,
    injection: FaultInjection,
}

impl FaultPlan {
    pub(crate) fn inject(&self, fault: Fault) -> FaultInjection {
        let mut state = self.lock_state();
        state.last_id += 1;
        let injection = FaultInjection { id: state.last_id, counts: watch::Sender::default() };
        let random = StdRng::seed_from_u64(fault.seed);
        state.faults.push(ArmedFault {
            fault,
            chosen_count: 0,
            random,
            injection: injection.clone(),
        });
        injection
    }

    pub(crate) fn remove(&self, id: u64) {
        self.lock_state().faults.retain(|armed| armed.injection.id != id);
    }

    pub(crate) fn injections(&self) -> Vec<FaultInjection> {
        self.lock_state().faults.iter().map(|armed| armed.injection.clone()).collect()
    }

    pub(crate) fn execution_counts(&self) -> BTreeMap<Arc<str>, u64> {
        self.lock_state().execution_counts.clone()
    }

    /// Chooses the fault for this execution. Every matching fault counts the occurrence; the
    /// oldest due one wins.
    pub(crate) fn choose_fault(&self, request: &FrontendRequest) -> Option<ChosenFault> {
        let mut chosen = None;
        let mut guard = self.lock_state();
        let FaultPlanState { faults, execution_counts: executed, .. } = &mut *guard;
        if let FrontendRequest::Statement { names } = request {
            for name in names {
                *executed.entry(name.clone()).or_default() += 1;
            }
        }
        for armed in faults {
            if is_at_point(&armed.fault.at, request) && armed.is_due() && chosen.is_none() {
                armed.chosen_count += 1;
                chosen = Some(ChosenFault {
                    action: armed.fault.action,
                    injection: armed.injection.clone(),
                });
            }
        }
        chosen
    }

    fn lock_state(&self) -> MutexGuard<'_, FaultPlanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            && self.chosen_count < self.fault.times
            && (self.fault.rate >= 1.0 || self.random.random::<f64>() < self.fault.rate)
    }
}

fn contains_name(names: &[Arc<str>], name: &str) -> bool {
    names.iter().any(|each| **each == *name)
}

fn is_at_point(point: &FaultPoint, request: &FrontendRequest) -> bool {
    match (point, request) {
        (FaultPoint::Connect, FrontendRequest::Connect)
        | (FaultPoint::Commit, FrontendRequest::Commit { .. }) => true,
        (FaultPoint::Statement(name), FrontendRequest::Statement { names: executed }) => {
            contains_name(executed, name)
        }
        (FaultPoint::CommitOf(name), FrontendRequest::Commit { transaction }) => {
            contains_name(transaction, name)
        }
        _ => false,
    }
}
