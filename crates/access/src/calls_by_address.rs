//! Counts of calls by address within a window: of wrong tokens, which are refused beyond the limit,
//! and of log lines about denied calls, which are left out beyond it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls of an address that are within the limit of a [`WINDOW`].
const MAX_CALLS: u32 = 30;
/// Wrong tokens of an address in a [`WINDOW`] after which no signature is checked for it: 200 a second
/// cost a hundredth of a core.
const MAX_CHECKED: u32 = 2_000;
const WINDOW: Duration = Duration::from_secs(10);
/// Addresses counted at a time; beyond that, further ones share a count.
const MAX_ADDRESSES: usize = 4096;

/// Count of a window.
#[derive(Debug, Clone, Copy)]
struct CallCount {
    since: Instant,
    count: u32,
}

/// Whether another call of an address is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallCountVerdict {
    /// It is.
    Within,
    /// It is the first one beyond the limit in this window.
    FirstBeyond,
    /// It is not.
    Beyond,
}

/// Calls by address.
#[derive(Debug, Default)]
pub(crate) struct CallsByAddress(Mutex<HashMap<Option<IpAddr>, CallCount>>);

impl CallsByAddress {
    /// Whether an address had too many calls for another signature to be checked. Addresses beyond the
    /// table's bound have none of their own.
    pub(crate) fn is_exhausted(&self, address: IpAddr, now: Instant) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&Some(client_network(address))).is_some_and(|entry| {
            entry.count > MAX_CHECKED && now.duration_since(entry.since) < WINDOW
        })
    }

    /// Counts a call.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> CallCountVerdict {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = Some(client_network(address));
        if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&network) {
            counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if counts.len() >= MAX_ADDRESSES {
                network = None;
            }
        }
        let fresh = CallCount { since: now, count: 0 };
        let entry = counts.entry(network).or_insert(fresh);
        if now.duration_since(entry.since) >= WINDOW {
            *entry = fresh;
        }
        entry.count = entry.count.saturating_add(1);
        match entry.count {
            0..=MAX_CALLS => CallCountVerdict::Within,
            count if count == MAX_CALLS + 1 => CallCountVerdict::FirstBeyond,
            _ => CallCountVerdict::Beyond,
        }
    }
}

/// The unit of limits per address: the address itself; of an IPv6 address its /64, which one machine
/// can have for itself.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_beyond(counts: &CallsByAddress, address: &str, now: Instant) -> bool {
        counts.count(address.parse().unwrap(), now) != CallCountVerdict::Within
    }

    #[test]
    fn thirty_in_ten_seconds_are_allowed() {
        let (counts, start) = (CallsByAddress::default(), Instant::now());
        for _ in 0..MAX_CALLS {
            assert!(!is_beyond(&counts, "192.0.2.1", start));
        }
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(counts.count(address, start), CallCountVerdict::FirstBeyond);
        for _ in MAX_CALLS..MAX_CHECKED {
            assert!(!counts.is_exhausted(address, start));
            assert_eq!(counts.count(address, start), CallCountVerdict::Beyond);
        }
        assert!(counts.is_exhausted(address, start));
        assert!(!counts.is_exhausted(address, start + WINDOW));
        assert!(!is_beyond(&counts, "192.0.2.2", start), "another address");
        assert!(is_beyond(&counts, "::ffff:192.0.2.1", start), "the same, mapped");
        assert!(is_beyond(&counts, "192.0.2.1", start + WINDOW - Duration::from_millis(1)));
        assert!(!is_beyond(&counts, "192.0.2.1", start + WINDOW));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address_and_the_table_is_bounded() {
        let (counts, start) = (CallsByAddress::default(), Instant::now());
        for n in 0..MAX_CALLS {
            assert!(!is_beyond(&counts, &format!("2001:db8::{n:x}"), start));
        }
        assert!(is_beyond(&counts, "2001:db8::ffff:0:0:1", start));
        assert!(!is_beyond(&counts, "2001:db8:0:1::1", start));
        for n in 0..2 * MAX_ADDRESSES {
            is_beyond(&counts, &format!("2001:db9:{:x}:{:x}::1", n >> 16, n & 0xffff), start);
        }
        assert!(counts.0.lock().unwrap().len() <= MAX_ADDRESSES + 1);
        assert!(is_beyond(&counts, "198.51.100.1", start), "new addresses share a count");
        assert!(!counts.is_exhausted("198.51.100.1".parse().unwrap(), start));
        assert!(!is_beyond(&counts, "198.51.100.1", start + WINDOW));
    }
}
