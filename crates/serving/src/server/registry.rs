//! The open connections of a listener: how many there are, by address, and which of them makes room for another one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::Activity;
use super::limits::Limits;

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct Registry {
    listener: &'static str,
    max: usize,
    max_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, (IpAddr, Arc<Activity>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    pub(super) activity: Arc<Activity>,
}

impl Registry {
    pub(super) fn new(listener: &'static str, limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            listener,
            max: limits.max_connections,
            max_per_address: limits.max_connections_per_address,
            open: Mutex::default(),
        })
    }

    /// A place for a connection from `address`. If there is none, the connection that has been without a request for
    /// longest goes; `None` if all are at work.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.lock();
        let of_address = open.by_address.get(&address).copied().unwrap_or_default();
        let crowded = if of_address >= self.max_per_address {
            Some(Some(address))
        } else {
            (open.connections.len() >= self.max).then_some(None)
        };
        if let Some(among) = crowded
            && !open.evict(among)
        {
            metrics::counter!("connections_refused_total", "listener" => self.listener).increment(1);
            return None;
        }
        if crowded.is_some() {
            metrics::counter!("connections_evicted_total", "listener" => self.listener).increment(1);
        }
        let number = open.next;
        open.next += 1;
        let activity = Arc::new(Activity::begin());
        open.connections.insert(number, (address, Arc::clone(&activity)));
        *open.by_address.entry(address).or_default() += 1;
        self.show(&open);
        Some(Place { registry: Arc::clone(self), number, activity })
    }

    fn show(&self, open: &Open) {
        // A gauge of a few thousand at most.
        #[allow(clippy::cast_precision_loss)]
        metrics::gauge!("connections_open", "listener" => self.listener).set(open.connections.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn remove(&mut self, number: u64) {
        let Some((address, _)) = self.connections.remove(&number) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// Closes the connection (of this address, if one is given) that has been idle for longest.
    fn evict(&mut self, of: Option<IpAddr>) -> bool {
        let candidates =
            self.connections.iter().filter(|(_, (address, _))| of.is_none_or(|of| of == *address));
        let idle = candidates.filter_map(|(number, (_, activity))| Some((activity.idle_since()?, *number)));
        let Some((_, number)) = idle.min() else { return false };
        if let Some((_, activity)) = self.connections.get(&number) {
            activity.evicted.notify_one();
        }
        self.remove(number);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.remove(self.number);
        self.registry.show(&open);
    }
}

/// What counts as one address: of IPv6 a whole /64, which any household has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn registry(max: usize, max_per_address: usize) -> Arc<Registry> {
        let limits = Limits {
            max_connections: max,
            max_connections_per_address: max_per_address,
            ..Limits::default()
        };
        Registry::new("test", &limits)
    }

    #[tokio::test]
    async fn who_is_idle_makes_room_and_who_works_does_not() {
        let registry = registry(2, 2);
        let (busy, idle) = (registry.place(HOME).unwrap(), registry.place(HOME).unwrap());
        busy.activity.request_begins();
        let third = registry.place(HOME).unwrap();
        idle.activity.evicted.notified().await;
        third.activity.request_begins();
        assert!(registry.place(HOME).is_none());
        drop(idle);
        assert!(registry.place(HOME).is_none(), "its place was given away already");
        drop(busy);
        assert!(registry.place(HOME).is_some());
    }

    #[test]
    fn one_address_does_not_take_all() {
        let registry = registry(3, 2);
        let held: Vec<_> = (0..2).map(|_| registry.place(HOME).unwrap()).collect();
        held.iter().for_each(|place| place.activity.request_begins());
        assert!(registry.place(HOME).is_none());
        assert!(registry.place(ELSEWHERE).is_some());
    }

    #[test]
    fn a_household_is_one_address() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), ELSEWHERE);
    }
}
