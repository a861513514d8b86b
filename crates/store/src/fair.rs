//! Fair queueing: each caller's items are one line, and the lines take turns. A caller with ten
//! thousand items gets all idle capacity but causes no head-of-line blocking for a
//! caller with one item.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Identity of a caller's line, such as one per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FairTurn(u64);

impl FairTurn {
    /// Shared line for items without a caller.
    pub const COMMON: FairTurn = FairTurn(0);

    /// Creates a new line.
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Round-robin queue over lines; FIFO within a line.
#[derive(Debug)]
pub struct FairQueue<T> {
    lines: HashMap<FairTurn, VecDeque<T>>,
    /// Each non-empty line once, in turn order.
    turns: VecDeque<FairTurn>,
    len: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Number of waiting items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether several lines have waiting items.
    pub fn has_several_lines(&self) -> bool {
        self.turns.len() > 1
    }

    /// Appends an item to its line.
    pub fn push(&mut self, turn: FairTurn, item: T) {
        let line = self.lines.entry(turn).or_default();
        if line.is_empty() {
            self.turns.push_back(turn);
        }
        line.push_back(item);
        self.len += 1;
    }

    /// Removes the first item of the next line.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_where(|_| true).map(|(_, item)| item)
    }

    /// Like [`FairQueue::pop`], among the lines for which `is_allowed` holds.
    pub fn pop_where(&mut self, is_allowed: impl Fn(FairTurn) -> bool) -> Option<(FairTurn, T)> {
        let index = self.turns.iter().position(|turn| is_allowed(*turn))?;
        let turn = self.turns.remove(index)?;
        let line = self.lines.get_mut(&turn)?;
        let item = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&turn);
        } else {
            self.turns.push_back(turn);
        }
        self.len -= 1;
        Some((turn, item))
    }

    /// Removes at most `max_items` items in turn order.
    pub fn pop_many(&mut self, max_items: usize) -> Vec<T> {
        std::iter::from_fn(|| self.pop()).take(max_items).collect()
    }
}

/// Semaphore whose waiters take turns by line. Clones share the permits.
#[derive(Debug, Clone)]
pub struct FairSemaphore(Arc<Mutex<FairPermits>>);

#[derive(Debug)]
struct FairPermits {
    available: usize,
    waiters: FairQueue<oneshot::Sender<FairPermit>>,
}

/// A permit; released on drop.
#[derive(Debug)]
pub struct FairPermit(FairSemaphore);

impl FairSemaphore {
    /// Creates a semaphore with `permits` permits.
    pub fn new(permits: usize) -> Self {
        Self(Arc::new(Mutex::new(FairPermits {
            available: permits,
            waiters: FairQueue::default(),
        })))
    }

    /// Waits for a permit. A cancelled waiter loses its place.
    pub async fn acquire(&self, turn: FairTurn) -> FairPermit {
        loop {
            let waiting = {
                let mut permits = self.lock_permits();
                if permits.available > 0 {
                    permits.available -= 1;
                    return FairPermit(self.clone());
                }
                let (sender, receiver) = oneshot::channel();
                permits.waiters.push(turn, sender);
                receiver
            };
            // The sender is dropped only after it has sent a permit.
            if let Ok(permit) = waiting.await {
                return permit;
            }
        }
    }

    fn lock_permits(&self) -> MutexGuard<'_, FairPermits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let next = {
            let mut permits = self.0.lock_permits();
            // Cancelled waiters are skipped.
            let next =
                std::iter::from_fn(|| permits.waiters.pop()).find(|waiting| !waiting.is_closed());
            permits.available += usize::from(next.is_none());
            next
        };
        if let Some(waiting) = next {
            // If the receiver was dropped meanwhile, the unsent permit is dropped
            // and passed on again.
            let _ = waiting.send(FairPermit(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_turns_and_are_in_order_themselves() {
        let (many, one, other) = (FairTurn::next(), FairTurn::next(), FairTurn::next());
        let mut fair = FairQueue::default();
        (0..5).for_each(|n| fair.push(many, n));
        fair.push(one, 10);
        (20..22).for_each(|n| fair.push(other, n));
        assert_eq!((fair.len(), fair.has_several_lines()), (8, true));
        assert_eq!(fair.pop_many(6), [0, 10, 20, 1, 21, 2]);
        assert!(!fair.has_several_lines());
        assert_eq!(fair.pop_many(10), [3, 4]);
        assert!(fair.is_empty() && fair.lines.is_empty());
    }

    #[test]
    fn a_line_may_be_passed_over() {
        let (held, free) = (FairTurn::next(), FairTurn::next());
        let mut fair = FairQueue::default();
        fair.push(held, 1);
        assert!(fair.pop_where(|turn| turn != held).is_none());
        fair.push(free, 2);
        assert_eq!(fair.pop_where(|turn| turn != held), Some((free, 2)));
        assert_eq!(fair.pop(), Some(1));
    }

    #[tokio::test]
    async fn permits_go_round_and_none_is_lost_with_those_who_leave() {
        let permits = FairSemaphore::new(1);
        let held = permits.acquire(FairTurn::COMMON).await;
        let (many, one) = (FairTurn::next(), FairTurn::next());
        let mut waiting: Vec<_> = [many, many, many, one]
            .into_iter()
            .map(|turn| Box::pin(permits.acquire(turn)))
            .collect();
        for waiting in &mut waiting {
            assert!(futures::poll!(waiting).is_pending());
        }
        let (last, second) = (waiting.pop().unwrap(), waiting.remove(1));
        drop(waiting.remove(0));
        drop(held);
        // The first waiter was cancelled; the single line is next, before the rest
        // of the long line.
        drop(last.await);
        drop(second.await);
        assert_eq!(permits.lock_permits().available, 0, "it is on its way to the last one");
        drop(waiting);
        drop(permits.acquire(one).await);
        assert_eq!(permits.lock_permits().available, 1);
    }
}
