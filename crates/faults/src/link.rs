//! State of one proxied connection, shared by its two directions.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::plan::ChosenFault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Flowing,
    Held,
    Cut,
}

pub(crate) struct ProxyLink {
    state: watch::Sender<LinkState>,
    /// Faults of future replies, each with its reply's number.
    reply_faults: Mutex<VecDeque<(u64, ChosenFault)>>,
}

impl ProxyLink {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(LinkState::Flowing), reply_faults: Mutex::default() }
    }

    /// Closes both sides permanently.
    pub(crate) fn cut(&self) {
        self.state.send_replace(LinkState::Cut);
    }

    /// Stops forwarding. Returns whether the link flowed before.
    pub(crate) fn hold(&self) -> bool {
        self.change_state(LinkState::Flowing, LinkState::Held)
    }

    /// Resumes forwarding. Returns whether the link was held.
    pub(crate) fn release(&self) -> bool {
        self.change_state(LinkState::Held, LinkState::Flowing)
    }

    pub(crate) fn is_held(&self) -> bool {
        *self.state.borrow() == LinkState::Held
    }

    fn change_state(&self, from: LinkState, to: LinkState) -> bool {
        self.state.send_if_modified(|flow| {
            let changes = *flow == from;
            if changes {
                *flow = to;
            }
            changes
        })
    }

    /// Waits while the link is held. Returns `false` if it is cut.
    pub(crate) async fn wait_while_held(&self) -> bool {
        let state = self
            .state
            .subscribe()
            .wait_for(|flow| *flow != LinkState::Held)
            .await
            .map(|flow| *flow);
        state.is_ok_and(|flow| flow == LinkState::Flowing)
    }

    /// Waits until the link is cut.
    pub(crate) async fn wait_until_cut(&self) {
        let _ = self.state.subscribe().wait_for(|flow| *flow == LinkState::Cut).await;
    }

    /// Schedules `fault` for this reply of the server.
    pub(crate) fn schedule_reply_fault(&self, reply: u64, fault: ChosenFault) {
        self.reply_faults.lock().unwrap_or_else(PoisonError::into_inner).push_back((reply, fault));
    }

    /// Whether a fault is scheduled for this reply.
    pub(crate) fn has_reply_fault(&self, reply: u64) -> bool {
        let reply_faults = self.reply_faults.lock().unwrap_or_else(PoisonError::into_inner);
        reply_faults.front().is_some_and(|(awaited, _)| *awaited == reply)
    }

    /// Takes the fault scheduled for this reply.
    pub(crate) fn take_reply_fault(&self, reply: u64) -> Option<ChosenFault> {
        let mut reply_faults = self.reply_faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = reply_faults.pop_front_if(|(awaited, _)| *awaited == reply)?.1;
        // Several statements share one reply: it breaks once.
        while reply_faults.pop_front_if(|(awaited, _)| *awaited == reply).is_some() {}
        Some(fault)
    }
}
