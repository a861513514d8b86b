//! Looking after a shard's lines, as long as anybody waits in them.
//!
//! One statement a second keeps the places of all callers of this process and finds what was missed; an expiry is
//! waited for by a timer per key, set by whoever learnt of it last. While nobody waits nothing is asked.

use std::sync::Arc;
use std::time::Duration;

use store::{Notifications, Notify};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::line::Line;
use super::queries::CHANNEL;

/// How often waiting callers are kept and looked after: a process is believed dead after four of these.
const BEAT: Duration = Duration::from_secs(1);
/// After so many beats, what nobody came back for is forgotten.
const FORGET_EVERY: u64 = 30;

/// What is told on a shard, from the first caller on who waits there: most processes have none, and hold no connection
/// for them.
struct Listening {
    heard: Receiver<Notify>,
    task: JoinHandle<()>,
}

impl Listening {
    fn start(line: &Line) -> Self {
        let (notifications, task) = Notifications::start(line.pool.clone(), vec![CHANNEL]);
        Self { heard: notifications.subscribe(), task }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks after a line for ever.
pub(super) async fn watch(line: Arc<Line>) {
    let mut listening: Option<Listening> = None;
    let (mut beats, mut next_beat) = (0_u64, None);
    let mut beating = tokio::spawn(std::future::ready(()));
    loop {
        if line.len() > 0 {
            // What was said before it has begun counts as missed.
            listening.get_or_insert_with(|| Listening::start(&line));
        }
        let (due, next_timer) = line.due();
        for key in due {
            let line = line.clone();
            tokio::spawn(async move { line.hand_over(key).await });
        }
        let now = Instant::now();
        // Who joins a line says in the same statement that this process lives.
        next_beat = (line.len() > 0).then(|| next_beat.unwrap_or(now + BEAT));
        if next_beat.is_some_and(|at| at <= now) {
            next_beat = Some(now + BEAT);
            if beating.is_finished() {
                beats += 1;
                let (line, forget) = (line.clone(), beats.is_multiple_of(FORGET_EVERY));
                beating = tokio::spawn(async move { line.keep(forget).await });
            }
        }
        tokio::select! {
            () = line.changed.notified() => {}
            () = at([next_timer, next_beat].into_iter().flatten().min()) => {}
            told = next(&mut listening) => match told {
                Ok(Notify::Heard { payload, .. }) => {
                    if let Ok(lock_id) = payload.parse() {
                        line.tell(lock_id, None);
                    }
                }
                // Anything may have been missed.
                Ok(Notify::Missed) | Err(RecvError::Lagged(_)) => next_beat = next_beat.map(|_| Instant::now()),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// What is told next; nothing while nobody listens.
async fn next(listening: &mut Option<Listening>) -> Result<Notify, RecvError> {
    match listening {
        Some(listening) => listening.heard.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns at a moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
