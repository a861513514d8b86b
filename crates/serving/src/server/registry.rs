//! Registry of a listener's open connections: limits in total and per address, and
//! eviction of idle connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use access::client_network;

use super::activity::ConnectionActivity;
use super::limits::ConnectionLimits;

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct ConnectionRegistry {
    listener: &'static str,
    max_connections: usize,
    max_connections_per_address: usize,
    connections: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next_number: u64,
    connections: HashMap<u64, (IpAddr, Arc<ConnectionActivity>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's slot; released when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    registry: Arc<ConnectionRegistry>,
    number: u64,
    pub(super) activity: Arc<ConnectionActivity>,
}

impl ConnectionRegistry {
    pub(super) fn new(listener: &'static str, limits: &ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            listener,
            max_connections: limits.max_connections,
            max_connections_per_address: limits.max_connections_per_address,
            connections: Mutex::default(),
        })
    }

    /// Acquires a slot for a connection from `address`. At a limit, the connection that is idle
    /// longest is evicted; `None` if all are busy.
    pub(super) fn acquire_slot(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionSlot> {
        let address = client_network(address);
        let mut open = self.lock_connections();
        let of_address = open.by_address.get(&address).copied().unwrap_or_default();
        let full_scope = if of_address >= self.max_connections_per_address {
            Some(Some(address))
        } else {
            (open.connections.len() >= self.max_connections).then_some(None)
        };
        if let Some(among) = full_scope
            && !open.evict_idle(among)
        {
            metrics::counter!("connections_refused_total", "listener" => self.listener)
                .increment(1);
            return None;
        }
        if full_scope.is_some() {
            metrics::counter!("connections_evicted_total", "listener" => self.listener)
                .increment(1);
        }
        let number = open.next_number;
        open.next_number += 1;
        let activity = Arc::new(ConnectionActivity::start());
        open.connections.insert(number, (address, Arc::clone(&activity)));
        *open.by_address.entry(address).or_default() += 1;
        self.update_gauge(&open);
        Some(ConnectionSlot { registry: Arc::clone(self), number, activity })
    }

    fn update_gauge(&self, open: &OpenConnections) {
        // A gauge of a few thousand at most: exact as `f64`.
        #[allow(clippy::cast_precision_loss)]
        metrics::gauge!("connections_open", "listener" => self.listener)
            .set(open.connections.len() as f64);
    }

    fn lock_connections(&self) -> MutexGuard<'_, OpenConnections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    fn remove(&mut self, number: u64) {
        let Some((address, _)) = self.connections.remove(&number) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// Evicts the connection that is idle longest, optionally of one address only.
    fn evict_idle(&mut self, only_address: Option<IpAddr>) -> bool {
        let candidates = self
            .connections
            .iter()
            .filter(|(_, (address, _))| only_address.is_none_or(|of| of == *address));
        let idle = candidates
            .filter_map(|(number, (_, activity))| Some((activity.idle_since()?, *number)));
        let Some((_, number)) = idle.min() else { return false };
        if let Some((_, activity)) = self.connections.get(&number) {
            activity.evicted.notify_one();
        }
        self.remove(number);
        true
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.registry.lock_connections();
        open.remove(self.number);
        self.registry.update_gauge(&open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn new_registry(max: usize, max_per_address: usize) -> Arc<ConnectionRegistry> {
        let limits = ConnectionLimits {
            max_connections: max,
            max_connections_per_address: max_per_address,
            ..ConnectionLimits::default()
        };
        ConnectionRegistry::new("test", &limits)
    }

    #[tokio::test]
    async fn who_is_idle_makes_room_and_who_works_does_not() {
        let registry = new_registry(2, 2);
        let (busy, idle) = (
            registry.acquire_slot(HOME_ADDRESS).unwrap(),
            registry.acquire_slot(HOME_ADDRESS).unwrap(),
        );
        busy.activity.begin_request();
        let third = registry.acquire_slot(HOME_ADDRESS).unwrap();
        idle.activity.evicted.notified().await;
        third.activity.begin_request();
        assert!(registry.acquire_slot(HOME_ADDRESS).is_none());
        drop(idle);
        assert!(registry.acquire_slot(HOME_ADDRESS).is_none(), "its place was given away already");
        drop(busy);
        assert!(registry.acquire_slot(HOME_ADDRESS).is_some());
    }

    #[test]
    fn one_address_does_not_take_all() {
        let registry = new_registry(3, 2);
        let held: Vec<_> = (0..2).map(|_| registry.acquire_slot(HOME_ADDRESS).unwrap()).collect();
        held.iter().for_each(|place| place.activity.begin_request());
        assert!(registry.acquire_slot(HOME_ADDRESS).is_none());
        assert!(registry.acquire_slot(OTHER_ADDRESS).is_some());
    }

    #[test]
    fn a_household_is_one_address() {
        let parse = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), OTHER_ADDRESS);
    }
}
