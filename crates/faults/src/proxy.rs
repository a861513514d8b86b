//! The proxy: a listener, its connections, and what a test does to them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::task::{AbortHandle, JoinSet};

use crate::address::{Address, Listener};
use crate::connection::serve;
use crate::fault::Fault;
use crate::link::Link;
use crate::plan::{Injection, Plan};

/// The proxy's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Made since the start.
    pub made: u64,
    /// Open now, held ones included.
    pub open: u64,
    /// Silent now.
    pub held: u64,
}

/// A running proxy. Dropping it closes all its connections.
pub struct Proxy {
    address: Address,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct Shared {
    plan: Plan,
    made: AtomicU64,
    links: Mutex<HashMap<u64, Arc<Link>>>,
}

impl Proxy {
    /// Listens at `listen` (TCP port 0: any) and passes everything on to the server at `upstream`.
    pub async fn start(listen: Address, upstream: Address) -> io::Result<Self> {
        let (listener, address) = Listener::bind(listen).await?;
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(listener, upstream, shared.clone())).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// One more fault, from now on.
    pub fn inject(&self, fault: Fault) -> Injection {
        self.shared.plan.inject(fault)
    }

    /// Ends a fault; a connection that it holds stays held.
    pub fn remove(&self, id: u64) {
        self.shared.plan.remove(id);
    }

    /// All faults that were injected and not removed.
    pub fn injections(&self) -> Vec<Injection> {
        self.shared.plan.injections()
    }

    /// The names of the statements that have passed, and how often each was executed.
    pub fn executed(&self) -> BTreeMap<Arc<str>, u64> {
        self.shared.plan.executed()
    }

    /// Every connection that is open now goes silent. How many did.
    pub fn hold_all(&self) -> usize {
        self.shared.links().values().filter(|link| link.hold()).count()
    }

    /// Every silent connection goes on where it stopped. How many did.
    pub fn release_all(&self) -> usize {
        self.shared.links().values().filter(|link| link.release()).count()
    }

    /// Cuts every connection that is open now. How many.
    pub fn cut_all(&self) -> usize {
        let links = self.shared.links();
        links.values().for_each(|link| link.cut());
        links.len()
    }

    /// Its connections.
    pub fn connections(&self) -> Connections {
        let links = self.shared.links();
        let held = links.values().filter(|link| link.is_held()).count() as u64;
        Connections {
            made: self.shared.made.load(Ordering::Relaxed),
            open: links.len() as u64,
            held,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: Listener, upstream: Address, shared: Arc<Shared>) {
    // Ends with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok(client) = accepted else { continue };
                let (id, link) = (shared.made.fetch_add(1, Ordering::Relaxed), Arc::new(Link::new()));
                shared.links().insert(id, link.clone());
                let (upstream, shared) = (upstream.clone(), shared.clone());
                connections.spawn(async move {
                    // Why one side closed is the other side's business.
                    let _ = serve(client, &upstream, &shared.plan, &link).await;
                    shared.links().remove(&id);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
