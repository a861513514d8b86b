//! gRPC calls to the order services: batches, with a fallback to single calls for services without
//! the batch call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use proto::order_service::order_service_client::OrderServiceClient;
use proto::order_service::{CallbackError, SendOrdersDataCallbackRequest};
use serving::peer::{GrpcPeer, OptionalCall, PeerChannel, PeerToken};
use serving::tls::ClientTls;
use tonic::{Code, Status};

use crate::assignments::OrderDataCallback;
use crate::counters::DeliveryCounters;
use crate::message::DeliveryLoad;

/// Maximum callbacks in one batch call.
pub(crate) const MAX_BATCH_CALLBACKS: usize = 1000;
/// Concurrent single calls for a batch in the fallback.
const MAX_SINGLE_CALLS: usize = 128;

/// Order services that receive the callbacks.
pub(crate) struct OrderServices {
    targets: Vec<OrderServiceTarget>,
    next_target: AtomicUsize,
    counters: Arc<DeliveryCounters>,
}

struct OrderServiceTarget {
    address: String,
    client: OrderServiceClient<PeerChannel>,
    /// Support of the batch call: `UNIMPLEMENTED` disables it until the connection breaks.
    batch_call: OptionalCall,
    /// Whether the last answer was a failure; only the first of a series is logged.
    is_failing: AtomicBool,
}

/// Callbacks of an attempt that were not accepted.
#[derive(Debug, Default)]
pub(crate) struct UnacceptedCallbacks {
    /// Transient failures, to be retried.
    pub(crate) failed: Vec<OrderDataCallback>,
    /// Permanent refusals, never retried.
    pub(crate) refused: Vec<OrderDataCallback>,
}

/// Whether a retry of the same callback would always be refused.
pub(crate) fn is_permanent_code(code: Code) -> bool {
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
    /// Clients for `addresses`, connected on first use. The error names the invalid address.
    pub(crate) fn new(
        addresses: &[String],
        token: &PeerToken,
        tls: Option<&ClientTls>,
        counters: Arc<DeliveryCounters>,
    ) -> Result<Self, String> {
        let mut targets = Vec::new();
        for address in addresses {
            let peer = GrpcPeer::with_tls(address, token.clone(), tls.cloned())?;
            targets.push(OrderServiceTarget {
                address: address.clone(),
                batch_call: peer.optional_call(),
                client: OrderServiceClient::new(peer.channel),
                is_failing: AtomicBool::new(false),
            });
        }
        Ok(Self { targets, next_target: AtomicUsize::new(0), counters })
    }

    /// Number of order services.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Index of the first target for the next `callbacks`, round-robin.
    pub(crate) fn next(&self, callbacks: usize) -> usize {
        if self.targets.len() == 1 {
            0
        } else {
            self.next_target.fetch_add(callbacks, Relaxed) % self.targets.len()
        }
    }

    /// Sends a load; each call times out after `call_timeout`.
    pub(crate) async fn send(
        &self,
        target: usize,
        load: &DeliveryLoad,
        call_timeout: Duration,
    ) -> UnacceptedCallbacks {
        match load {
            DeliveryLoad::Single(callback) => {
                let sent = self.send_single(target, *callback, call_timeout).await;
                let mut unaccepted = UnacceptedCallbacks::default();
                unaccepted.add_failure(*callback, sent);
                unaccepted
            }
            DeliveryLoad::Batch(callbacks) => {
                self.send_batch(target, callbacks, call_timeout).await
            }
        }
    }

    /// Sends one callback, within `call_timeout`.
    pub(crate) async fn send_single(
        &self,
        target: usize,
        callback: OrderDataCallback,
        call_timeout: Duration,
    ) -> Result<(), Status> {
        let target = &self.targets[target];
        let mut client = target.client.clone();
        match call_within(call_timeout, client.send_order_data_callback(callback)).await {
            Ok(_) => {
                self.record_accepted(target, 1);
                Ok(())
            }
            Err(status) => {
                self.record_rejected(target, &status, &[callback]);
                Err(status)
            }
        }
    }

    async fn send_batch(
        &self,
        target: usize,
        callbacks: &[OrderDataCallback],
        call_timeout: Duration,
    ) -> UnacceptedCallbacks {
        let service = &self.targets[target];
        if !service.batch_call.is_possible() {
            return self.send_each(target, callbacks, call_timeout).await;
        }
        let request = SendOrdersDataCallbackRequest { callbacks: callbacks.to_vec() };
        let mut client = service.client.clone();
        match call_within(call_timeout, client.send_orders_data_callback(request)).await {
            Ok(answer) => self.record_batch_answer(service, callbacks, answer.into_inner().errors),
            // The whole batch was refused: the service is old, or one callback is at fault. Single
            // calls tell which.
            Err(status) if is_permanent_code(status.code()) => {
                if status.code() == Code::Unimplemented && service.batch_call.mark_lacking() {
                    tracing::info!(
                        address = service.address,
                        "takes no batches: sending single callbacks"
                    );
                }
                self.send_each(target, callbacks, call_timeout).await
            }
            Err(status) => {
                self.record_rejected(service, &status, callbacks);
                UnacceptedCallbacks { failed: callbacks.to_vec(), refused: Vec::new() }
            }
        }
    }

    async fn send_each(
        &self,
        target: usize,
        callbacks: &[OrderDataCallback],
        call_timeout: Duration,
    ) -> UnacceptedCallbacks {
        let (mut left, mut calls) = (callbacks.iter(), FuturesUnordered::new());
        let mut unaccepted = UnacceptedCallbacks::default();
        loop {
            for callback in left.by_ref().take(MAX_SINGLE_CALLS - calls.len()) {
                calls.push(
                    self.send_single(target, *callback, call_timeout).map(|sent| (*callback, sent)),
                );
            }
            let Some((callback, sent)) = calls.next().await else { return unaccepted };
            unaccepted.add_failure(callback, sent);
        }
    }

    /// Evaluates a batch answer: callbacks without an error were accepted.
    fn record_batch_answer(
        &self,
        target: &OrderServiceTarget,
        callbacks: &[OrderDataCallback],
        errors: Vec<CallbackError>,
    ) -> UnacceptedCallbacks {
        let mut unaccepted = UnacceptedCallbacks::default();
        let errors: HashMap<i32, CallbackError> =
            errors.into_iter().map(|error| (error.order_id, error)).collect();
        if !errors.is_empty() {
            for callback in callbacks {
                let Some(error) = errors.get(&callback.order_id) else { continue };
                let status = Status::new(Code::from_i32(error.code), error.message.clone());
                self.record_rejected(target, &status, &[*callback]);
                unaccepted.add_failure(*callback, Err(status));
            }
        }
        self.record_accepted(target, callbacks.len() - unaccepted.len());
        unaccepted
    }

    fn record_accepted(&self, target: &OrderServiceTarget, callbacks: usize) {
        self.counters.accepted.add(callbacks);
        if target.is_failing.load(Relaxed) && target.is_failing.swap(false, Relaxed) {
            tracing::info!(address = target.address, "callbacks are accepted again");
        }
    }

    fn record_rejected(
        &self,
        target: &OrderServiceTarget,
        status: &Status,
        callbacks: &[OrderDataCallback],
    ) {
        let (address, code, message) = (&target.address, status.code(), status.message());
        tracing::debug!(address, ?code, message, ?callbacks, "not accepted");
        if is_permanent_code(code) {
            if let Some(total) = self.counters.refused.add_and_sample(callbacks.len()) {
                tracing::warn!(address, ?code, message, total, "callbacks refused for good");
            }
            return;
        }
        self.counters.failed.add(callbacks.len());
        if !target.is_failing.swap(true, Relaxed) {
            tracing::warn!(address, ?code, message, "callbacks fail and are tried again");
        }
    }
}

impl UnacceptedCallbacks {
    /// Number of unaccepted callbacks.
    pub(crate) fn len(&self) -> usize {
        self.failed.len() + self.refused.len()
    }

    fn add_failure(&mut self, callback: OrderDataCallback, sent: Result<(), Status>) {
        match sent {
            Ok(()) => {}
            Err(status) if is_permanent_code(status.code()) => self.refused.push(callback),
            Err(_) => self.failed.push(callback),
        }
    }
}

async fn call_within<T>(
    call_timeout: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(call_timeout, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}
