//! Calls to the order services: single and in batches, with single calls for a service that does not know batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use proto::order_service::order_service_client::OrderServiceClient;
use proto::order_service::{CallbackError, SendOrdersDataCallbackRequest};
use serving::peer::{OptionalCall, Peer};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::counters::Counters;
use crate::given::Callback;
use crate::message::Load;

/// Callbacks in one batch call.
pub(crate) const MAX_BATCH: usize = 1000;
/// Single calls in flight for one batch that has to be sent so.
const SINGLE_WIDTH: usize = 128;

/// The order services that get the callbacks.
pub(crate) struct OrderServices {
    targets: Vec<Target>,
    turn: AtomicUsize,
    counters: Arc<Counters>,
}

struct Target {
    address: String,
    client: OrderServiceClient<Channel>,
    /// Whether it answered a batch with `UNIMPLEMENTED` since its connection was last seen to break.
    batches: OptionalCall,
    /// Whether its last answer was a failure, so that only the first of many is told.
    failing: AtomicBool,
}

/// What a try left undelivered.
#[derive(Debug, Default)]
pub(crate) struct Unaccepted {
    /// May succeed later.
    pub(crate) failed: Vec<Callback>,
    /// Will never be accepted.
    pub(crate) refused: Vec<Callback>,
}

/// Whether the same callback will be refused whenever it is sent.
pub(crate) fn is_permanent(code: Code) -> bool {
    use Code as C;
    matches!(
        code,
        C::InvalidArgument
            | C::NotFound
            | C::AlreadyExists
            | C::FailedPrecondition
            | C::OutOfRange
            | C::PermissionDenied
            | C::Unauthenticated
            | C::Unimplemented
    )
}

impl OrderServices {
    /// Order services at `addresses`; connected when first needed. Fails with the address that is none, and why.
    pub(crate) fn new(addresses: &[String], counters: Arc<Counters>) -> Result<Self, String> {
        let target = |address: &String| {
            let peer = Peer::at(address)?;
            Ok(Target {
                address: address.clone(),
                batches: peer.optional_call(),
                client: OrderServiceClient::new(peer.channel),
                failing: AtomicBool::new(false),
            })
        };
        let targets = addresses.iter().map(target).collect::<Result<_, String>>()?;
        Ok(Self { targets, turn: AtomicUsize::new(0), counters })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whose turn it is, and who comes after it, for the next `callbacks`: they alternate.
    pub(crate) fn next(&self, callbacks: usize) -> usize {
        if self.targets.len() == 1 { 0 } else { self.turn.fetch_add(callbacks, Relaxed) % self.targets.len() }
    }

    /// Sends a load; each call takes at most `within`.
    pub(crate) async fn send(&self, target: usize, load: &Load, within: Duration) -> Unaccepted {
        match load {
            Load::One(callback) => {
                let sent = self.send_one(target, *callback, within).await;
                let mut unaccepted = Unaccepted::default();
                unaccepted.note(*callback, sent);
                unaccepted
            }
            Load::Many(callbacks) => self.send_many(target, callbacks, within).await,
        }
    }

    /// Sends one callback, for at most `within`.
    pub(crate) async fn send_one(
        &self,
        target: usize,
        callback: Callback,
        within: Duration,
    ) -> Result<(), Status> {
        let target = &self.targets[target];
        let mut client = target.client.clone();
        match timely(within, client.send_order_data_callback(callback)).await {
            Ok(_) => {
                self.accepted(target, 1);
                Ok(())
            }
            Err(status) => {
                self.rejected(target, &status, &[callback]);
                Err(status)
            }
        }
    }

    async fn send_many(&self, target: usize, callbacks: &[Callback], within: Duration) -> Unaccepted {
        let service = &self.targets[target];
        if !service.batches.is_possible() {
            return self.send_singly(target, callbacks, within).await;
        }
        let request = SendOrdersDataCallbackRequest { callbacks: callbacks.to_vec() };
        let mut client = service.client.clone();
        match timely(within, client.send_orders_data_callback(request)).await {
            Ok(answer) => self.sort_out(service, callbacks, answer.into_inner().errors),
            // Refused as a whole: an old service, or one of them is at fault and the others need not be.
            Err(status) if is_permanent(status.code()) => {
                if status.code() == Code::Unimplemented && service.batches.note_lacking() {
                    tracing::info!(address = service.address, "takes no batches: sending single callbacks");
                }
                self.send_singly(target, callbacks, within).await
            }
            Err(status) => {
                self.rejected(service, &status, callbacks);
                Unaccepted { failed: callbacks.to_vec(), refused: Vec::new() }
            }
        }
    }

    async fn send_singly(&self, target: usize, callbacks: &[Callback], within: Duration) -> Unaccepted {
        let (mut left, mut calls) = (callbacks.iter(), FuturesUnordered::new());
        let mut unaccepted = Unaccepted::default();
        loop {
            for callback in left.by_ref().take(SINGLE_WIDTH - calls.len()) {
                calls.push(self.send_one(target, *callback, within).map(|sent| (*callback, sent)));
            }
            let Some((callback, sent)) = calls.next().await else { return unaccepted };
            unaccepted.note(callback, sent);
        }
    }

    /// The answer of a batch: what is not among the errors was accepted.
    fn sort_out(&self, target: &Target, callbacks: &[Callback], errors: Vec<CallbackError>) -> Unaccepted {
        let mut unaccepted = Unaccepted::default();
        let errors: HashMap<i32, CallbackError> =
            errors.into_iter().map(|error| (error.order_id, error)).collect();
        if !errors.is_empty() {
            for callback in callbacks {
                let Some(error) = errors.get(&callback.order_id) else { continue };
                let status = Status::new(Code::from_i32(error.code), error.message.clone());
                self.rejected(target, &status, &[*callback]);
                unaccepted.note(*callback, Err(status));
            }
        }
        self.accepted(target, callbacks.len() - unaccepted.len());
        unaccepted
    }

    fn accepted(&self, target: &Target, callbacks: usize) {
        self.counters.accepted.add(callbacks);
        if target.failing.load(Relaxed) && target.failing.swap(false, Relaxed) {
            tracing::info!(address = target.address, "callbacks are accepted again");
        }
    }

    fn rejected(&self, target: &Target, status: &Status, callbacks: &[Callback]) {
        let (address, code, message) = (&target.address, status.code(), status.message());
        tracing::debug!(address, ?code, message, ?callbacks, "not accepted");
        if is_permanent(code) {
            if let Some(total) = self.counters.refused.add_noting(callbacks.len()) {
                tracing::warn!(address, ?code, message, total, "callbacks refused for good");
            }
            return;
        }
        self.counters.failed.add(callbacks.len());
        if !target.failing.swap(true, Relaxed) {
            tracing::warn!(address, ?code, message, "callbacks fail and are tried again");
        }
    }
}

impl Unaccepted {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.failed.len() + self.refused.len()
    }

    fn note(&mut self, callback: Callback, sent: Result<(), Status>) {
        match sent {
            Ok(()) => {}
            Err(status) if is_permanent(status.code()) => self.refused.push(callback),
            Err(_) => self.failed.push(callback),
        }
    }
}

async fn timely<T>(within: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("no answer in time"));
    tokio::time::timeout(within, call).await.unwrap_or_else(late)
}
