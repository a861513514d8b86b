//! A message to an order service: one callback, or many in one call.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::given::Callback;

/// What is sent in one call. Questions about one order are answered by `One`, so that the exchange of single calls
/// stays one of single calls.
#[derive(Debug)]
pub(crate) enum Load {
    One(Callback),
    Many(Vec<Callback>),
}

impl Load {
    pub(crate) fn callbacks(&self) -> &[Callback] {
        match self {
            Self::One(callback) => std::slice::from_ref(callback),
            Self::Many(callbacks) => callbacks,
        }
    }

    /// The same kind of load with these callbacks instead; `None` if there are none.
    fn with(&self, callbacks: Vec<Callback>) -> Option<Self> {
        match self {
            _ if callbacks.is_empty() => None,
            Self::One(_) => Some(Self::One(callbacks[0])),
            Self::Many(_) => Some(Self::Many(callbacks)),
        }
    }
}

/// A load on its way.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) load: Load,
    /// Which order service gets it.
    pub(crate) target: usize,
    /// When it is to be sent.
    pub(crate) due: Instant,
    /// How often it failed.
    pub(crate) tries: u32,
    /// When it failed first.
    pub(crate) failing_since: Option<Instant>,
    /// A duplicate: never tried again.
    pub(crate) duplicate: bool,
    /// Dropped once the message has been tried: whoever waits for that holds the other end.
    pub(crate) first_try: Option<mpsc::Sender<()>>,
}

impl Message {
    /// A message that is due in `delay`.
    pub(crate) fn new(load: Load, target: usize, delay: Duration) -> Self {
        let due = Instant::now() + delay;
        Self { load, target, due, tries: 0, failing_since: None, duplicate: false, first_try: None }
    }

    pub(crate) fn callbacks(&self) -> &[Callback] {
        self.load.callbacks()
    }

    /// How many orders it is about.
    pub(crate) fn len(&self) -> usize {
        self.callbacks().len()
    }

    /// This message with the callbacks that `keep` wants; `None` if there are none.
    pub(crate) fn retain(mut self, mut keep: impl FnMut(&Callback) -> bool) -> Option<Self> {
        match &mut self.load {
            Load::One(callback) => keep(callback).then_some(self),
            Load::Many(callbacks) => {
                callbacks.retain(keep);
                (!callbacks.is_empty()).then_some(self)
            }
        }
    }

    /// A message like this one about one of its orders.
    pub(crate) fn about(&self, callback: Callback) -> Self {
        Self { load: Load::One(callback), first_try: self.first_try.clone(), ..*self }
    }

    /// This message after a failed try: what it still has to say, to the next of `targets` order services, when the
    /// `wait` is over. `None` if it has nothing left to say.
    pub(crate) fn failed(
        self,
        left: Vec<Callback>,
        targets: usize,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Option<Self> {
        let load = self.load.with(left)?;
        let now = Instant::now();
        let tries = self.tries.saturating_add(1);
        Some(Self {
            load,
            target: (self.target + 1) % targets,
            due: now + wait(tries),
            tries,
            failing_since: self.failing_since.or(Some(now)),
            duplicate: self.duplicate,
            first_try: None,
        })
    }
}
