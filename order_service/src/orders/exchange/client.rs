//! gRPC client of the data manager: a `tower` stack (breaker, timeout) over a reconnecting channel,
//! with a limit of calls in flight; single or batch calls, depending on the peer.

use std::error::Error as _;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::data_manager::GetOrderDataCallbackRequest;
use proto::data_manager::data_manager_client::DataManagerClient;
use serving::peer::{GrpcPeer, OptionalCall, PeerChannel, is_connection_failure};
use store::{FairPermit, FairSemaphore, FairTurn};
use tonic::{Code, Status};
use tower::{Service, ServiceBuilder};

use super::batch::QuestionBatcher;
use super::breaker::CircuitBreaker;
use crate::orders::OrderId;

/// A call that takes longer is waiting in the peer and releases its `quick_calls` permit.
const QUICK_CALL_TIMEOUT: Duration = Duration::from_millis(250);

/// Options of the client.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeClientOptions {
    /// Maximum number of calls in flight.
    pub max_calls: usize,
    /// Maximum number of calls in flight for less than 250 ms: more of them on one connection only
    /// raise the cost of each.
    pub max_quick_calls: usize,
    /// Timeout of one call.
    pub timeout: Duration,
    /// Whether to use the batch call if the peer has it.
    pub use_batches: bool,
}

/// Why a question failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The connection failed, or the breaker is open.
    #[error("data manager unreachable: {0}")]
    Unreachable(String),
    /// The data manager answered with an error status.
    #[error("data manager answered {code:?}: {message}")]
    Refused {
        /// Status code of the response.
        code: Code,
        /// Message of the status.
        message: String,
    },
    /// The call timed out, or it succeeded and no callback came in time.
    #[error("no callback from the data manager within {}", humantime::format_duration(*.0))]
    NoCallback(Duration),
}

/// The client; clones share breaker, limits and batches.
#[derive(Clone)]
pub struct ExchangeClient {
    single_client: DataManagerClient<BreakerChannel>,
    question_batcher: Option<QuestionBatcher>,
    batch_call: OptionalCall,
    breaker: CircuitBreaker,
    calls: FairSemaphore,
    quick_calls: FairSemaphore,
}

/// Permit for one call in flight.
pub struct DataManagerCallPermit {
    turn: FairTurn,
    _call: FairPermit,
    quick_call: FairPermit,
}

pub(super) type BreakerChannel = BreakerService<tower::timeout::Timeout<PeerChannel>>;

impl ExchangeClient {
    /// Creates a client; `peer` may be unreachable.
    pub fn new(peer: GrpcPeer, options: ExchangeClientOptions) -> Self {
        let breaker = CircuitBreaker::default();
        let batch_call = peer.optional_call();
        let guard = breaker.clone();
        let guarded = ServiceBuilder::new()
            .layer_fn(move |inner| BreakerService { inner, breaker: guard.clone() })
            .timeout(options.timeout)
            .service(peer.channel);
        let single_client = DataManagerClient::new(guarded);
        let question_batcher = options
            .use_batches
            .then(|| QuestionBatcher::start(single_client.clone(), batch_call.clone()));
        Self {
            single_client,
            question_batcher,
            batch_call,
            breaker,
            calls: FairSemaphore::new(options.max_calls),
            quick_calls: FairSemaphore::new(options.max_quick_calls),
        }
    }

    /// The circuit breaker of the connection.
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Waits for a call permit, fair between requests. Not a layer of the stack: while an order
    /// waits here, it can still receive a late callback to an earlier question.
    pub async fn acquire_permit(&self, turn: FairTurn) -> DataManagerCallPermit {
        let call = self.calls.acquire(turn).await;
        let quick_call = self.quick_calls.acquire(turn).await;
        DataManagerCallPermit { turn, _call: call, quick_call }
    }

    /// Asks for one order. Holds `permit` until the call has returned, after
    /// `timeout` at the latest.
    pub fn ask(
        &self,
        order_id: OrderId,
        permit: DataManagerCallPermit,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AskError>> {
        let question_batcher =
            self.question_batcher.clone().filter(|_| self.batch_call.is_possible());
        let mut single_client = self.single_client.clone();
        Box::pin(async move {
            let DataManagerCallPermit { turn, _call, quick_call } = permit;
            let asking = async move {
                if let Some(questions) = question_batcher
                    && let Some(answer) = questions.ask(turn, order_id).await
                {
                    return answer;
                }
                let request = GetOrderDataCallbackRequest { order_id: order_id.get() };
                single_client.get_order_data_callback(request).await.map(drop)
            };
            tokio::pin!(asking);
            let answer = match tokio::time::timeout(QUICK_CALL_TIMEOUT, &mut asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    drop(quick_call);
                    asking.await
                }
            };
            answer.map_err(|status| to_ask_error(&status, timeout))
        })
    }
}

/// Classifies a failed call: a status with a source was made by the client, not by the peer.
pub(super) fn to_ask_error(status: &Status, timeout: Duration) -> AskError {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tower::timeout::error::Elapsed>() {
            return AskError::NoCallback(timeout);
        }
        source = error.source();
    }
    if is_connection_failure(status) {
        return AskError::Unreachable(status.message().to_owned());
    }
    AskError::Refused { code: status.code(), message: status.message().to_owned() }
}

/// Tower service that fails calls while the breaker is open, and records their outcomes.
#[derive(Clone)]
pub struct BreakerService<S> {
    inner: S,
    breaker: CircuitBreaker,
}

/// The call was not made because the breaker is open.
#[derive(Debug, thiserror::Error)]
#[error("circuit open")]
struct CircuitOpenError;

impl<S, Request> Service<Request> for BreakerService<S>
where
    S: Service<Request, Error = tower::BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<S::Response, tower::BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if !self.breaker.admit_call() {
            return Box::pin(std::future::ready(Err(CircuitOpenError.into())));
        }
        let breaker = self.breaker.clone();
        let call = self.inner.call(request);
        Box::pin(async move {
            let answer = call.await;
            match &answer {
                Ok(_) => breaker.record_success(),
                // A timeout is no connection failure: the peer is slow, but reachable.
                Err(error) if error.is::<tower::timeout::error::Elapsed>() => {}
                Err(_) => breaker.record_failure(),
            }
            answer
        })
    }
}
