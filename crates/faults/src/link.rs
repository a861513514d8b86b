//! State of one proxied connection, shared by its two directions.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::plan::Hit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Flowing,
    Held,
    Cut,
}

pub(crate) struct Link {
    flow: watch::Sender<Flow>,
    /// Faults of future replies, each with its reply's number.
    replies: Mutex<VecDeque<(u64, Hit)>>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { flow: watch::Sender::new(Flow::Flowing), replies: Mutex::default() }
    }

    /// Closes both sides permanently.
    pub(crate) fn cut(&self) {
        self.flow.send_replace(Flow::Cut);
    }

    /// Stops forwarding. Returns whether the link flowed before.
    pub(crate) fn hold(&self) -> bool {
        self.turn(Flow::Flowing, Flow::Held)
    }

    /// Resumes forwarding. Returns whether the link was held.
    pub(crate) fn release(&self) -> bool {
        self.turn(Flow::Held, Flow::Flowing)
    }

    pub(crate) fn is_held(&self) -> bool {
        *self.flow.borrow() == Flow::Held
    }

    fn turn(&self, from: Flow, to: Flow) -> bool {
        self.flow.send_if_modified(|flow| {
            let turns = *flow == from;
            if turns {
                *flow = to;
            }
            turns
        })
    }

    /// Waits while the link is held. Returns `false` if it is cut.
    pub(crate) async fn flowing(&self) -> bool {
        let flow =
            self.flow.subscribe().wait_for(|flow| *flow != Flow::Held).await.map(|flow| *flow);
        flow.is_ok_and(|flow| flow == Flow::Flowing)
    }

    /// Waits until the link is cut.
    pub(crate) async fn until_cut(&self) {
        let _ = self.flow.subscribe().wait_for(|flow| *flow == Flow::Cut).await;
    }

    /// Schedules `hit` for this reply of the server.
    pub(crate) fn expect_reply(&self, reply: u64, hit: Hit) {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner).push_back((reply, hit));
    }

    /// Whether a fault is scheduled for this reply.
    pub(crate) fn awaits(&self, reply: u64) -> bool {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.front().is_some_and(|(awaited, _)| *awaited == reply)
    }

    /// Takes the fault scheduled for this reply.
    pub(crate) fn take_awaiting(&self, reply: u64) -> Option<Hit> {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let hit = replies.pop_front_if(|(awaited, _)| *awaited == reply)?.1;
        // Several statements share one reply: it breaks once.
        while replies.pop_front_if(|(awaited, _)| *awaited == reply).is_some() {}
        Some(hit)
    }
}
