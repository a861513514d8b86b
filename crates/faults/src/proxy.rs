//! The fault proxy: listener, connections, and the controls for tests.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::task::{AbortHandle, JoinSet};

use crate::address::{EndpointAddress, SocketListener};
use crate::connection::serve_connection;
use crate::fault::Fault;
use crate::link::ProxyLink;
use crate::plan::{FaultInjection, FaultPlan};

/// Connection counts of a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    /// Accepted since the start.
    pub made: u64,
    /// Open now, including held ones.
    pub open: u64,
    /// Number of connections held now.
    pub held: u64,
}

/// A running proxy. Dropping it closes all connections.
pub struct FaultProxy {
    address: EndpointAddress,
    state: Arc<ProxyState>,
    accept_task: AbortHandle,
}

#[derive(Default)]
struct ProxyState {
    plan: FaultPlan,
    accepted_count: AtomicU64,
    links: Mutex<HashMap<u64, Arc<ProxyLink>>>,
}

impl FaultProxy {
    /// Listens at `listen` (TCP port 0: any free port) and forwards to the server at `upstream`.
    pub async fn start(listen: EndpointAddress, upstream: EndpointAddress) -> io::Result<Self> {
        let (listener, address) = SocketListener::bind(listen).await?;
        let state = Arc::<ProxyState>::default();
        let accept_task =
            tokio::spawn(accept_connections(listener, upstream, state.clone())).abort_handle();
        Ok(Self { address, state, accept_task })
    }

    /// Listening address, with the actual port.
    pub fn address(&self) -> &EndpointAddress {
        &self.address
    }

    /// Adds a fault, active immediately.
    pub fn inject(&self, fault: Fault) -> FaultInjection {
        self.state.plan.inject(fault)
    }

    /// Removes a fault; a connection that it holds stays held.
    pub fn remove(&self, id: u64) {
        self.state.plan.remove(id);
    }

    /// All injected faults that were not removed.
    pub fn injections(&self) -> Vec<FaultInjection> {
        self.state.plan.injections()
    }

    /// Execution counts by statement name.
    pub fn execution_counts(&self) -> BTreeMap<Arc<str>, u64> {
        self.state.plan.execution_counts()
    }

    /// Holds every open connection. Returns the number newly held.
    pub fn hold_all(&self) -> usize {
        self.state.lock_links().values().filter(|link| link.hold()).count()
    }

    /// Releases every held connection; each continues where it stopped. Returns their number.
    pub fn release_all(&self) -> usize {
        self.state.lock_links().values().filter(|link| link.release()).count()
    }

    /// Cuts every open connection. Returns their number.
    pub fn cut_all(&self) -> usize {
        let links = self.state.lock_links();
        links.values().for_each(|link| link.cut());
        links.len()
    }

    /// Current connection counts of the proxy.
    pub fn connection_counts(&self) -> ConnectionCounts {
        let links = self.state.lock_links();
        let held = links.values().filter(|link| link.is_held()).count() as u64;
        ConnectionCounts {
            made: self.state.accepted_count.load(Ordering::Relaxed),
            open: links.len() as u64,
            held,
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

impl ProxyState {
    fn lock_links(&self) -> MutexGuard<'_, HashMap<u64, Arc<ProxyLink>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept_connections(
    listener: SocketListener,
    upstream: EndpointAddress,
    shared: Arc<ProxyState>,
) {
    // Dropped with this task, which aborts the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok(client) = accepted else { continue };
                let (id, link) = (shared.accepted_count.fetch_add(1, Ordering::Relaxed), Arc::new(ProxyLink::new()));
                shared.lock_links().insert(id, link.clone());
                let (upstream, shared) = (upstream.clone(), shared.clone());
                connections.spawn(async move {
                    // An I/O error of either side just ends the connection.
                    let _ = serve_connection(client, &upstream, &shared.plan, &link).await;
                    shared.lock_links().remove(&id);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
