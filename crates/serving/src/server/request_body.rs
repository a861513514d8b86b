//! Request body wrapper: reserves budget as data arrives and enforces the body timeout.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tonic::Status;

use super::framing::GrpcFraming;
use super::in_flight::InFlightRequest;
use crate::error::{ApiError, ErrorCode};

/// Overhead per chunk: a client may send a body byte by byte.
const PART_COST_BYTES: usize = 64;

/// Error of an incomplete body: [`ApiError`], or for gRPC its [`Status`].
type RequestBodyError = Box<dyn std::error::Error + Send + Sync>;

/// An incoming body with its accounting.
pub(super) struct RequestBody {
    body: Incoming,
    request: Arc<InFlightRequest>,
    /// Message framing, for gRPC only.
    framing: Option<GrpcFraming>,
    /// Bytes reserved for received data.
    held_bytes: usize,
    /// Bytes reserved for decompression; kept until the body ends, like the decoder's buffer.
    unpacked_bytes: usize,
    timeout: Duration,
    /// Started when the body first has no data available.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(
        body: Incoming,
        request: Arc<InFlightRequest>,
        framing: Option<GrpcFraming>,
        timeout: Duration,
    ) -> Self {
        Self { body, request, framing, held_bytes: 0, unpacked_bytes: 0, timeout, deadline: None }
    }

    /// Reserves budget for a chunk and parses the messages in it.
    fn count_part(&mut self, part: &Bytes) -> Result<(), ApiError> {
        if let Some(framing) = &mut self.framing {
            if framing.is_between_messages() {
                // The previous message has been consumed when the next one is read.
                self.request.release_bytes(std::mem::take(&mut self.held_bytes));
            }
            if framing.advance(part)? {
                self.deadline = None;
            }
            let more = framing.unpacked_bytes().saturating_sub(self.unpacked_bytes);
            if more > 0 {
                self.request.take_for_body(more, self.held_bytes + self.unpacked_bytes)?;
                self.unpacked_bytes += more;
            }
        }
        let cost = part.len() + PART_COST_BYTES;
        self.request.take_for_body(cost, self.held_bytes)?;
        self.held_bytes += cost;
        Ok(())
    }

    /// Whether no timeout applies now: between two messages of a stream.
    fn can_wait(&self) -> bool {
        self.framing.as_ref().is_some_and(GrpcFraming::can_wait)
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<ApiError> {
        if self.can_wait() {
            self.deadline = None;
            return Poll::Pending;
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(ApiError::new(
            ErrorCode::Timeout,
            format!("the body was not here within {} s", timeout.as_secs_f64()),
        ))
    }

    fn to_body_error(&self, error: ApiError) -> RequestBodyError {
        if self.framing.is_some() { Box::new(Status::from(error)) } else { Box::new(error) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = frame.data_ref().map_or(Ok(()), |part| self.count_part(part));
                Poll::Ready(Some(
                    counted.map(|()| frame).map_err(|error| self.to_body_error(error)),
                ))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let late = ready!(self.poll_deadline(context));
                Poll::Ready(Some(Err(self.to_body_error(late))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
