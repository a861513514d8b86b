//! The fault proxy: listener, connections, and the controls for tests.

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

/// Connection counts of a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Accepted since the start.
    pub made: u64,
    /// Open now, including held ones.
    pub open: u64,
    /// Number of connections held now.
    pub held: u64,
}

/// A running proxy. Dropping it closes all connections.
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
    /// Listens at `listen` (TCP port 0: any free port) and forwards to the server at `upstream`.
    pub async fn start(listen: Address, upstream: Address) -> io::Result<Self> {
        let (listener, address) = Listener::bind(listen).await?;
        let shared = Arc::<Shared>::default();
        let accepting = tokio::spawn(accept(listener, upstream, shared.clone())).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Listening address, with the actual port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Adds a fault, active immediately.
    pub fn inject(&self, fault: Fault) -> Injection {
        self.shared.plan.inject(fault)
    }

    /// Removes a fault; a connection that it holds stays held.
    pub fn remove(&self, id: u64) {
        self.shared.plan.remove(id);
    }

    /// All injected faults that were not removed.
    pub fn injections(&self) -> Vec<Injection> {
        self.shared.plan.injections()
    }

    /// Execution counts by statement name.
    pub fn executed(&self) -> BTreeMap<Arc<str>, u64> {
        self.shared.plan.executed()
    }

    /// Holds every open connection. Returns the number newly held.
    pub fn hold_all(&self) -> usize {
        self.shared.links().values().filter(|link| link.hold()).count()
    }

    /// Releases every held connection; each continues where it stopped. Returns their number.
    pub fn release_all(&self) -> usize {
        self.shared.links().values().filter(|link| link.release()).count()
    }

    /// Cuts every open connection. Returns their number.
    pub fn cut_all(&self) -> usize {
        let links = self.shared.links();
        links.values().for_each(|link| link.cut());
        links.len()
    }

    /// Current connection counts of the proxy.
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
    // Dropped with this task, which aborts the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok(client) = accepted else { continue };
                let (id, link) = (shared.made.fetch_add(1, Ordering::Relaxed), Arc::new(Link::new()));
                shared.links().insert(id, link.clone());
                let (upstream, shared) = (upstream.clone(), shared.clone());
                connections.spawn(async move {
                    // An I/O error of either side just ends the connection.
                    let _ = serve(client, &upstream, &shared.plan, &link).await;
                    shared.links().remove(&id);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
