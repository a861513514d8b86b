//! The client of the data manager: a `tower` stack (breaker, time-out) over a connection that remakes itself, with a
//! limit on calls in flight, asking one by one or in batches, as the peer can.

use std::error::Error as _;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::data_manager::GetOrderDataCallbackRequest;
use proto::data_manager::data_manager_client::DataManagerClient;
use serving::peer::{OptionalCall, Peer, is_connection_failure};
use store::{FairPermit, FairSemaphore, Turn};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service, ServiceBuilder};

use super::batch::Questions;
use super::breaker::Breaker;

/// A call that has not returned after this long waits for something: it makes room for another one.
const SLOW: Duration = Duration::from_millis(250);

/// How the data manager is asked.
#[derive(Debug, Clone, Copy)]
pub struct ClientTerms {
    /// Calls in flight at most.
    pub calls: usize,
    /// Of these, calls that are quickly answered: more of them on a connection at a time only make each dearer.
    pub quick_calls: usize,
    /// Longest time for one call.
    pub timeout: Duration,
    /// Whether the batch call is used where the peer has it.
    pub batches: bool,
}

/// Why a question was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The data manager could not be reached, or the breaker is open.
    #[error("data manager unreachable: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("data manager answered {code:?}: {message}")]
    Refused {
        /// With this status.
        code: Code,
        /// And this message.
        message: String,
    },
    /// The question was taken, but no data came, or the call did not return.
    #[error("no callback from the data manager within {}", humantime::format_duration(*.0))]
    NoCallback(Duration),
}

/// The client. Clones share everything.
#[derive(Clone)]
pub struct Client {
    single: DataManagerClient<Guarded>,
    questions: Option<Questions>,
    batches: OptionalCall,
    breaker: Breaker,
    calls: FairSemaphore,
    quick_calls: FairSemaphore,
}

/// The right to have one call in flight.
pub struct Place {
    turn: Turn,
    _call: FairPermit,
    quick: FairPermit,
}

pub(super) type Guarded = BreakerService<tower::timeout::Timeout<Channel>>;

impl Client {
    /// A client of `peer`, which need not be connected.
    pub fn new(peer: Peer, terms: ClientTerms) -> Self {
        let breaker = Breaker::default();
        let batches = peer.optional_call();
        let guard = breaker.clone();
        let guarded = ServiceBuilder::new()
            .layer_fn(move |inner| BreakerService { inner, breaker: guard.clone() })
            .timeout(terms.timeout)
            .service(peer.channel);
        let single = DataManagerClient::new(guarded);
        let questions = terms.batches.then(|| Questions::start(single.clone(), batches.clone()));
        Self {
            single,
            questions,
            batches,
            breaker,
            calls: FairSemaphore::new(terms.calls),
            quick_calls: FairSemaphore::new(terms.quick_calls),
        }
    }

    /// The breaker of this connection.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Waits until another call may be in flight, requests taking turns. Not a layer of the stack: while it waits, an order
    /// listens for a late answer to an earlier question.
    pub async fn place(&self, turn: Turn) -> Place {
        let call = self.calls.acquire(turn).await;
        let quick = self.quick_calls.acquire(turn).await;
        Place { turn, _call: call, quick }
    }

    /// Asks for one order. Holds `place` until the call has returned, which takes `timeout` at most.
    pub fn ask(
        &self,
        order_id: i32,
        place: Place,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), AskError>> {
        let batched = self.questions.clone().filter(|_| self.batches.is_possible());
        let mut single = self.single.clone();
        Box::pin(async move {
            let Place { turn, _call, quick } = place;
            let asking = async move {
                if let Some(questions) = batched
                    && let Some(answer) = questions.ask(turn, order_id).await
                {
                    return answer;
                }
                single.get_order_data_callback(GetOrderDataCallbackRequest { order_id }).await.map(drop)
            };
            tokio::pin!(asking);
            let answer = match tokio::time::timeout(SLOW, &mut asking).await {
                Ok(answer) => answer,
                Err(_) => {
                    drop(quick);
                    asking.await
                }
            };
            answer.map_err(|status| ask_error(&status, timeout))
        })
    }
}

/// What a failed call says: a status with a source never came from the peer.
pub(super) fn ask_error(status: &Status, timeout: Duration) -> AskError {
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

/// Holds calls back while the breaker is open and tells it how they end.
#[derive(Clone)]
pub struct BreakerService<S> {
    inner: S,
    breaker: Breaker,
}

/// The breaker is open: the call was not made.
#[derive(Debug, thiserror::Error)]
#[error("circuit open")]
struct CircuitOpen;

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
        if !self.breaker.admit() {
            return Box::pin(std::future::ready(Err(CircuitOpen.into())));
        }
        let breaker = self.breaker.clone();
        let call = self.inner.call(request);
        Box::pin(async move {
            let answer = call.await;
            match &answer {
                Ok(_) => breaker.connected(),
                // A peer that is slow is there.
                Err(error) if error.is::<tower::timeout::error::Elapsed>() => {}
                Err(_) => breaker.disconnected(),
            }
            answer
        })
    }
}
