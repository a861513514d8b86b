//! The line before the pipeline: whose order goes next.
//!
//! Requests take turns, order by order, so that one of ten thousand orders does not keep one of a single order waiting. What
//! was tried before comes behind what is new, but gets every fourth place, so that neither starves. And no request has all
//! places: while the data manager is slow, one that filled them would shut everybody out for as long as it takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::{Fair, Turn};
use tokio::sync::Notify;

use super::{Origin, Work};

/// New orders that go before one that was tried before.
const NEW_FOR_ONE_RETRIED: u32 = 3;
/// Of so many places one is kept for other requests than the one that has the most; of fewer than eight times as many, none.
const ONE_KEPT_OF: usize = 8;

/// Where orders enter. Clones share it.
#[derive(Clone)]
pub struct Entrance(Arc<Line>);

/// Where the workers take orders from. Clones share it.
#[derive(Clone)]
pub struct Exits(Arc<Line>);

/// An order that is in the pipeline, and its place there.
pub struct Taken {
    /// The order.
    pub work: Work,
    pub(crate) _place: Place,
}

struct Line {
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Places that one request may have.
    share: usize,
}

#[derive(Default)]
struct Waiting {
    new: Fair<Work>,
    retried: Fair<Work>,
    /// New orders taken since one that was tried before.
    new_taken: u32,
    /// Places that each request has.
    places: HashMap<Turn, usize>,
    closed: bool,
}

/// The line before a pipeline of so many places. What waits in it is bounded by those who bring it.
pub fn line(places: usize) -> (Entrance, Exits) {
    let kept = if places < ONE_KEPT_OF * ONE_KEPT_OF { 0 } else { places / ONE_KEPT_OF };
    let line = Line { waiting: Mutex::default(), more: Notify::new(), share: places - kept };
    let line = Arc::new(line);
    (Entrance(line.clone()), Exits(line))
}

impl Entrance {
    /// Puts an order into the line; lost if it is closed, which it is only when the process is ending.
    pub fn enter(&self, work: Work) {
        let mut waiting = self.0.lock();
        if waiting.closed {
            return;
        }
        match work.origin {
            Origin::Accepted(_) => waiting.new.push(work.turn, work),
            Origin::Retried(_) => waiting.retried.push(work.turn, work),
        }
        drop(waiting);
        self.0.more.notify_one();
    }

    /// Lets nothing in any more.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.more.notify_waiters();
    }
}

impl Exits {
    /// The next order. `None` when the line is closed and empty.
    pub async fn next(&self) -> Option<Taken> {
        let line = &self.0;
        loop {
            let more = line.more.notified();
            let (taken, is_over) = {
                let mut waiting = line.lock();
                (waiting.take(line.share), waiting.is_over())
            };
            // Who was woken wakes the next one: many may have come at once.
            match taken {
                Some(work) => {
                    if is_over {
                        line.more.notify_waiters()
                    } else {
                        line.more.notify_one()
                    }
                    let place = Place { line: line.clone(), turn: work.turn };
                    return Some(Taken { work, _place: place });
                }
                None if is_over => return None,
                None => more.await,
            }
        }
    }
}

impl Waiting {
    fn take(&mut self, share: usize) -> Option<Work> {
        let places = &self.places;
        let may = |turn| places.get(&turn).is_none_or(|held| *held < share);
        let retried_first = self.new_taken >= NEW_FOR_ONE_RETRIED;
        let mut taken = if retried_first { self.retried.pop_of(may) } else { self.new.pop_of(may) };
        if taken.is_none() {
            taken = if retried_first { self.new.pop_of(may) } else { self.retried.pop_of(may) };
        }
        let (turn, work) = taken?;
        self.new_taken = match work.origin {
            Origin::Accepted(_) => self.new_taken.saturating_add(1),
            Origin::Retried(_) => 0,
        };
        *self.places.entry(turn).or_default() += 1;
        Some(work)
    }

    fn is_over(&self) -> bool {
        self.closed && self.new.is_empty() && self.retried.is_empty()
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the pipeline.
pub struct Place {
    line: Arc<Line>,
    turn: Turn,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.line.lock();
        let held = waiting.places.get_mut(&self.turn);
        let was_full = held.is_some_and(|held| {
            *held -= 1;
            *held + 1 == self.line.share
        });
        if waiting.places.get(&self.turn) == Some(&0) {
            waiting.places.remove(&self.turn);
        }
        drop(waiting);
        if was_full {
            self.line.more.notify_one();
        }
    }
}
