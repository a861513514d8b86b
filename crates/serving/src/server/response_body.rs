//! Response body wrapper: splits data into bounded parts and accounts for it until it is
//! written to the socket.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use access::{Denial, RequestClient};
use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::in_flight::InFlightRequest;
use crate::caller::denied_error;
use crate::error::{ApiError, ErrorCode};
use crate::grpc;

/// Maximum part size: hyper buffers a whole part, independent of the client's reading speed.
const MAX_PART_BYTES: usize = 128 << 10;
/// A larger gRPC message is dropped if the budget has no room. Smaller ones are always sent,
/// because they may confirm an effect.
const LARGE_MESSAGE_BYTES: usize = 1 << 20;

/// Frames after which a body counts as long: the only answer of a call has a message and trailers.
const SHORT_BODY_FRAMES: u8 = 2;

/// Whose right to a body is watched.
enum BodyClient {
    /// Nobody's: the caller's right has no end, or the body has ended.
    None,
    /// The client's, once the body has this many frames more, or one is not there yet.
    Later(RequestClient, u8),
    /// Ends when the client has lost its right.
    Watched(Pin<Box<dyn Future<Output = Denial> + Send>>),
}

/// An outgoing body with its accounting.
pub(super) struct ResponseBody {
    body: AxumBody,
    request: Arc<InFlightRequest>,
    is_grpc: bool,
    /// Remainder of the last data frame, not yet sent.
    unsent: Bytes,
    /// Bytes reserved for that frame.
    held_bytes: usize,
    is_given_up: bool,
    client: BodyClient,
}

impl ResponseBody {
    pub(super) fn new(body: AxumBody, request: Arc<InFlightRequest>, is_grpc: bool) -> Self {
        Self {
            body,
            request,
            is_grpc,
            unsent: Bytes::new(),
            held_bytes: 0,
            is_given_up: false,
            client: BodyClient::None,
        }
    }

    /// Ends the body when the client has lost its right to it.
    pub(super) fn for_client(mut self, client: Option<RequestClient>) -> Self {
        if let Some(client) = client {
            self.client = BodyClient::Later(client, SHORT_BODY_FRAMES);
        }
        self
    }

    /// The end of a body whose client has just lost its right to it.
    fn poll_withdrawal(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Frame<Bytes>, axum::Error>> {
        let BodyClient::Watched(withdrawal) = &mut self.client else { return Poll::Pending };
        let denial = ready!(withdrawal.as_mut().poll(context));
        self.client = BodyClient::None;
        self.is_given_up = true;
        denial.record();
        let error = denied_error(&denial);
        Poll::Ready(if self.is_grpc {
            Ok(Frame::trailers(grpc::error_trailers(error)))
        } else {
            Err(axum::Error::new(error))
        })
    }

    /// The next frame of the body. A body that is waited for, or long, is watched from then on: most
    /// answers are neither.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let BodyClient::Later(client, frames_left) = &mut self.client else { return polled };
        if polled.is_ready() && *frames_left > 0 {
            *frames_left -= 1;
            return polled;
        }
        let client = client.clone();
        let withdrawal = Box::pin(async move { client.wait_until_withdrawn().await });
        self.client = BodyClient::Watched(withdrawal);
        polled
    }

    fn next_part(&mut self) -> Frame<Bytes> {
        let part = self.unsent.split_to(MAX_PART_BYTES.min(self.unsent.len()));
        Frame::data(self.request.track_part(part))
    }

    /// Takes the next data frame; returns the trailers to send instead if there is no room for it.
    fn accept_data(&mut self, data: Bytes) -> Option<Frame<Bytes>> {
        if self.is_grpc
            && data.len() > LARGE_MESSAGE_BYTES
            && !self.request.has_room_for(data.len())
        {
            self.is_given_up = true;
            let message =
                "the answer is large and the service holds as many bytes as it may: try again soon";
            return Some(Frame::trailers(grpc::error_trailers(ApiError::new(
                ErrorCode::Overloaded,
                message,
            ))));
        }
        // Smaller frames are covered by the request's fixed cost.
        if data.len() > MAX_PART_BYTES {
            self.held_bytes = data.len();
            self.request.add_bytes(self.held_bytes);
        }
        self.unsent = data;
        None
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if !self.unsent.is_empty() {
                return Poll::Ready(Some(Ok(self.next_part())));
            }
            if self.is_given_up {
                return Poll::Ready(None);
            }
            let held_bytes = std::mem::take(&mut self.held_bytes);
            self.request.release_bytes(held_bytes);
            let polled = self.poll_body(context);
            if let Poll::Ready(end) = self.poll_withdrawal(context) {
                return Poll::Ready(Some(end));
            }
            let frame = match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Some(instead) = self.accept_data(data) {
                        return Poll::Ready(Some(Ok(instead)));
                    }
                }
                Err(mut frame) => {
                    if let Some(trailers) = frame.trailers_mut().filter(|_| self.is_grpc) {
                        grpc::correct_status(trailers);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unsent.is_empty() && (self.is_given_up || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.unsent.len() as u64);
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}
