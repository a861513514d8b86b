//! Limit on wrong tokens per address. Right tokens and calls without credentials are not counted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens that an address may present within [`WINDOW`].
const MAX_WRONG_TOKENS: u32 = 30;
const WINDOW: Duration = Duration::from_secs(10);
/// Addresses counted at a time; beyond that, further ones share a count.
const MAX_ADDRESSES: usize = 4096;

/// Count of a window.
#[derive(Debug, Clone, Copy)]
struct WrongTokenCount {
    since: Instant,
    count: u32,
}

/// Whether another wrong token of an address is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrongTokenVerdict {
    /// It is.
    Within,
    /// It is the first one beyond the limit in this window.
    FirstBeyond,
    /// It is not.
    Beyond,
}

/// Wrong tokens by address.
#[derive(Debug, Default)]
pub(crate) struct WrongTokens(Mutex<HashMap<IpAddr, WrongTokenCount>>);

impl WrongTokens {
    /// Counts a wrong token.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> WrongTokenVerdict {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = network_of(address);
        if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&network) {
            counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if counts.len() >= MAX_ADDRESSES {
                network = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let fresh = WrongTokenCount { since: now, count: 0 };
        let entry = counts.entry(network).or_insert(fresh);
        if now.duration_since(entry.since) >= WINDOW {
            *entry = fresh;
        }
        entry.count = entry.count.saturating_add(1);
        match entry.count {
            0..=MAX_WRONG_TOKENS => WrongTokenVerdict::Within,
            count if count == MAX_WRONG_TOKENS + 1 => WrongTokenVerdict::FirstBeyond,
            _ => WrongTokenVerdict::Beyond,
        }
    }
}

/// The address itself; of an IPv6 address its /64, which one machine can have for itself.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_beyond(counts: &WrongTokens, address: &str, now: Instant) -> bool {
        counts.count(address.parse().unwrap(), now) != WrongTokenVerdict::Within
    }

    #[test]
    fn thirty_in_ten_seconds_are_allowed() {
        let (counts, start) = (WrongTokens::default(), Instant::now());
        for _ in 0..MAX_WRONG_TOKENS {
            assert!(!is_beyond(&counts, "192.0.2.1", start));
        }
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(counts.count(address, start), WrongTokenVerdict::FirstBeyond);
        assert_eq!(counts.count(address, start), WrongTokenVerdict::Beyond);
        assert!(!is_beyond(&counts, "192.0.2.2", start), "another address");
        assert!(is_beyond(&counts, "::ffff:192.0.2.1", start), "the same, mapped");
        assert!(is_beyond(&counts, "192.0.2.1", start + WINDOW - Duration::from_millis(1)));
        assert!(!is_beyond(&counts, "192.0.2.1", start + WINDOW));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address_and_the_table_is_bounded() {
        let (counts, start) = (WrongTokens::default(), Instant::now());
        for n in 0..MAX_WRONG_TOKENS {
            assert!(!is_beyond(&counts, &format!("2001:db8::{n:x}"), start));
        }
        assert!(is_beyond(&counts, "2001:db8::ffff:0:0:1", start));
        assert!(!is_beyond(&counts, "2001:db8:0:1::1", start));
        for n in 0..2 * MAX_ADDRESSES {
            is_beyond(&counts, &format!("2001:db9:{:x}:{:x}::1", n >> 16, n & 0xffff), start);
        }
        assert!(counts.0.lock().unwrap().len() <= MAX_ADDRESSES + 1);
        assert!(is_beyond(&counts, "198.51.100.1", start), "new addresses share a count");
        assert!(!is_beyond(&counts, "198.51.100.1", start + WINDOW));
    }
}
