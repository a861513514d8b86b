//! Limits of each client: its requests at a time and its requests a second.
//!
//! - Shape: one table for a process, shared by its ports. A client is a name of the clients file;
//!   without one it is an address (IPv6: a /64).
//! - Cost: two locks per request that are held for some look-ups; nothing without limits.
//! - Bound: [`MAX_NETWORKS`] addresses at a time; further ones share the limits of one client.
//!
//! Rates are limited by the generic cell rate algorithm in its form of virtual scheduling (ITU-T
//! recommendation I.371, annex A): one moment per client, no timers, and no edge of a window at
//! which the double rate passes. A client may use a second's requests at once.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use access::client_network;

use super::authorization::AuthorizedCaller;
use crate::error::{ApiError, ErrorCode};

/// Addresses counted at a time.
const MAX_NETWORKS: usize = 4096;
/// Shortest time between two searches of the full table for clients at rest.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Requests at a time of an address without credentials, where clients are configured: watches of
/// the health service, which would hold memory for ever. Probes are exempt.
const MAX_ANONYMOUS_REQUESTS: u32 = 64;
/// A client's refused requests are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Limits of a client over all ports of a process; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests a second, and at once.
    pub rate: u32,
    /// Requests at a time, from the head to the last byte of the answer.
    pub concurrency: u32,
}

impl ClientLimits {
    /// The limits of a caller: its own of the clients file, else these.
    fn of_caller(self, caller: &AuthorizedCaller) -> Self {
        let client = match caller {
            AuthorizedCaller::Client(client) => client,
            AuthorizedCaller::Trusted => return self,
            AuthorizedCaller::Anonymous(_) => {
                let concurrency = match self.concurrency {
                    0 => MAX_ANONYMOUS_REQUESTS,
                    limit => limit.min(MAX_ANONYMOUS_REQUESTS),
                };
                return Self { concurrency, ..self };
            }
        };
        let (rate, concurrency) = client.limits();
        Self {
            rate: rate.unwrap_or(self.rate),
            concurrency: concurrency.unwrap_or(self.concurrency),
        }
    }
}

/// Limits the clients of a process; clones share the state.
#[derive(Debug, Clone, Default)]
pub struct ClientLimiter(Arc<LimiterState>);

#[derive(Debug, Default)]
struct LimiterState {
    limits: ClientLimits,
    table: Mutex<ClientTable>,
}

#[derive(Debug, Default)]
struct ClientTable {
    clients: HashMap<ClientKey, Arc<ClientLoad>>,
    swept_at: Option<Instant>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ClientKey {
    /// A client of the clients file.
    Name(String),
    /// A caller that is known by its address alone.
    Network(IpAddr),
    /// All addresses that found the table full.
    Others,
}

impl ClientKey {
    pub(super) fn new(caller: &AuthorizedCaller, address: IpAddr) -> Self {
        match caller {
            AuthorizedCaller::Client(client) => Self::Name(client.name().to_owned()),
            AuthorizedCaller::Trusted | AuthorizedCaller::Anonymous(_) => {
                Self::Network(client_network(address))
            }
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Network(address) => address.fmt(f),
            Self::Others => f.write_str("further addresses"),
        }
    }
}

#[derive(Debug, Default)]
struct ClientLoad(Mutex<LoadState>);

#[derive(Debug, Default)]
struct LoadState {
    requests: u32,
    /// When the next request is due at the exact rate; earlier ones use up the burst.
    next_due: Option<Instant>,
    logged_at: Option<Instant>,
}

/// One of a client's requests; returned when dropped.
#[derive(Debug)]
pub(super) struct ClientPermit(Arc<ClientLoad>);

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.0.lock().requests -= 1;
    }
}

/// A limit that a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MetLimit {
    Rate,
    Concurrency,
}

impl ClientLimiter {
    /// A limiter for one process; `limits` are those of clients that have none of their own.
    pub fn new(limits: ClientLimits) -> Self {
        Self(Arc::new(LimiterState { limits, table: Mutex::default() }))
    }

    /// Counts a request of a client, or refuses it as overload; `None` without limits.
    pub(super) fn admit(
        &self,
        caller: &AuthorizedCaller,
        address: IpAddr,
    ) -> Result<Option<ClientPermit>, ApiError> {
        let limits = self.0.limits.of_caller(caller);
        if limits == ClientLimits::default() {
            return Ok(None);
        }
        let (key, now) = (ClientKey::new(caller, address), Instant::now());
        let load = self.0.find_load(&key, now);
        let mut client = load.lock();
        let Err(limit) = client.take(limits, now) else {
            drop(client);
            return Ok(Some(ClientPermit(load)));
        };
        let is_logged = client.logged_at.is_none_or(|at| now - at >= LOG_INTERVAL);
        if is_logged {
            client.logged_at = Some(now);
        }
        drop(client);
        Err(refusal_error(limit, limits, is_logged.then_some(&key)))
    }
}

impl LimiterState {
    fn find_load(&self, key: &ClientKey, now: Instant) -> Arc<ClientLoad> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = table.clients.get(key) {
            return Arc::clone(load);
        }
        let mut key = key.clone();
        if table.clients.len() >= MAX_NETWORKS {
            table.sweep(now);
            // The clients file bounds the names.
            if table.clients.len() >= MAX_NETWORKS && !matches!(key, ClientKey::Name(_)) {
                key = ClientKey::Others;
            }
        }
        Arc::clone(table.clients.entry(key).or_default())
    }
}

impl ClientTable {
    /// Forgets clients at rest.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now - at < SWEEP_INTERVAL) {
            return;
        }
        self.swept_at = Some(now);
        // A load that is in use has further references.
        self.clients.retain(|_, load| Arc::strong_count(load) > 1 || !load.lock().is_at_rest(now));
    }
}

impl ClientLoad {
    fn lock(&self) -> MutexGuard<'_, LoadState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadState {
    fn is_at_rest(&self, now: Instant) -> bool {
        self.requests == 0 && self.next_due.is_none_or(|due| due <= now)
    }

    /// Counts a request, unless it meets a limit: then nothing changes.
    fn take(&mut self, limits: ClientLimits, now: Instant) -> Result<(), MetLimit> {
        if limits.concurrency > 0 && self.requests >= limits.concurrency {
            return Err(MetLimit::Concurrency);
        }
        if limits.rate > 0 {
            let interval = Duration::from_secs(1) / limits.rate;
            let due = self.next_due.map_or(now, |due| due.max(now));
            if due - now > Duration::from_secs(1) - interval {
                return Err(MetLimit::Rate);
            }
            self.next_due = Some(due + interval);
        }
        self.requests += 1;
        Ok(())
    }
}

/// The error of a refused request, which is counted; and logged, if `logged` names its client.
fn refusal_error(limit: MetLimit, limits: ClientLimits, logged: Option<&ClientKey>) -> ApiError {
    let (label, message) = match limit {
        MetLimit::Rate => {
            ("rate", format!("a client may send {} requests a second: try again soon", limits.rate))
        }
        MetLimit::Concurrency => (
            "concurrency",
            format!("a client may have {} requests at a time: try again soon", limits.concurrency),
        ),
    };
    metrics::counter!("client_requests_limited_total", "limit" => label).increment(1);
    if let Some(client) = logged {
        tracing::warn!(
            %client, limit = label, code = "OVERLOADED",
            "a client is at its limit: its refused requests are counted, not logged, for some seconds"
        );
    }
    ApiError::new(ErrorCode::Overloaded, message).with_arg("limit", label)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_seconds_requests_pass_at_once_and_then_each_at_its_time() {
        let (limits, start) = (ClientLimits { rate: 10, concurrency: 0 }, Instant::now());
        let mut client = LoadState::default();
        let mut passed =
            |milliseconds| client.take(limits, start + Duration::from_millis(milliseconds)).is_ok();
        assert!((0..10).all(|_| passed(0)));
        for (milliseconds, is_passed) in
            [(0, false), (99, false), (100, true), (199, false), (250, true), (300, true)]
        {
            assert_eq!(passed(milliseconds), is_passed, "{milliseconds}");
        }
        assert_eq!((0..20).filter(|_| passed(60_000)).count(), 10, "no more after a rest");
    }

    #[test]
    fn no_second_passes_more_than_twice_the_rate_and_no_long_time_more_than_the_rate() {
        let (limits, start) = (ClientLimits { rate: 7, concurrency: 0 }, Instant::now());
        let mut client = LoadState::default();
        let passed = (0..10_000).filter(|milliseconds| {
            client.take(limits, start + Duration::from_millis(*milliseconds)).is_ok()
        });
        assert_eq!(passed.count(), 7 * 10 + 7 - 1);
    }

    #[test]
    fn a_request_that_has_ended_makes_room() {
        let limits = ClientLimits { rate: 0, concurrency: 2 };
        let limiter = ClientLimiter::new(limits);
        let admit = |last| {
            let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
            limiter.admit(&AuthorizedCaller::Trusted, address)
        };
        let held = [admit(1).unwrap(), admit(1).unwrap()];
        let error = admit(1).unwrap_err();
        assert_eq!(error.code, ErrorCode::Overloaded);
        assert_eq!(error.args["limit"], "concurrency");
        assert!(admit(2).unwrap().is_some(), "another client");
        drop(held);
        assert!(admit(1).unwrap().is_some());
        let unlimited = ClientLimiter::new(ClientLimits::default());
        let caller = AuthorizedCaller::Trusted;
        assert!(unlimited.admit(&caller, Ipv4Addr::LOCALHOST.into()).unwrap().is_none());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_rests() {
        let limits = ClientLimits { rate: 1, concurrency: 0 };
        let state = LimiterState { limits, table: Mutex::default() };
        let start = Instant::now();
        let network = |n: usize| {
            ClientKey::Network(client_network(IpAddr::V6(Ipv6Addr::from_bits((n as u128) << 64))))
        };
        let take = |key: &ClientKey, at| {
            let load = state.find_load(key, at);
            let taken = load.lock().take(limits, at);
            taken.map(|()| drop(ClientPermit(load)))
        };
        for n in 0..MAX_NETWORKS {
            take(&network(n), start).unwrap();
        }
        take(&network(MAX_NETWORKS), start).unwrap();
        assert!(take(&network(MAX_NETWORKS + 1), start).is_err(), "they share the limits of one");
        take(&ClientKey::Name("a".to_owned()), start).unwrap();
        assert_eq!(state.table.lock().unwrap().clients.len(), MAX_NETWORKS + 2);
        let later = start + Duration::from_secs(2);
        take(&network(MAX_NETWORKS + 1), later).unwrap();
        assert_eq!(state.table.lock().unwrap().clients.len(), 1);
    }
}
