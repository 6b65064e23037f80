//! A subscription or push session that is being sent to a client, either by its connection or as a
//! response body.
//!
//! The response carries its session in an extension ([`DetachableSession`]). A connection that serves only
//! this response takes the session out and writes to the socket itself. Otherwise the body yields
//! the session's bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use hyper::body::Frame;
use parking_lot::Mutex;

use crate::http::error::ApiError;
use crate::http::layer::request::RequestInfo;
use crate::live::{JoinError, SendQueue, Subscription};

/// Writes the final frame of a session that fails.
pub(in crate::http) type Failed = fn(&ApiError, &str, &str) -> Bytes;

/// The events of a push session.
pub(in crate::http) type PushEvents = Pin<Box<dyn Stream<Item = Result<Bytes, JoinError>> + Send>>;

/// The source of the bytes of a session.
#[expect(
    clippy::large_enum_variant,
    reason = "most sessions are subscriptions, and a box would be one more allocation for each"
)]
pub(in crate::http) enum EventSource {
    Subscription(Subscription),
    Push(PushEvents),
}

impl From<Subscription> for EventSource {
    fn from(subscription: Subscription) -> Self {
        Self::Subscription(subscription)
    }
}

impl From<PushEvents> for EventSource {
    fn from(events: PushEvents) -> Self {
        Self::Push(events)
    }
}

impl EventSource {
    /// Writes the next bytes to `out`. Pending if there are none, `None` at the end.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendQueue,
    ) -> Poll<Option<Result<(), JoinError>>> {
        match self {
            Self::Subscription(subscription) => subscription.poll_next(cx, out),
            Self::Push(events) => events.as_mut().poll_next(cx).map(|next| {
                next.map(|next| next.map(|bytes| out.write(|out| out.extend_from_slice(&bytes))))
            }),
        }
    }

    /// Returns the name of the source in the log.
    fn kind(&self) -> &'static str {
        match self {
            Self::Subscription(_) => "subscription",
            Self::Push(_) => "push session",
        }
    }
}

/// A subscription or push session that logs its duration when it is dropped.
pub(crate) struct Session {
    source: EventSource,
    failed: Failed,
    began: Instant,
    /// Copies of the path and the request id: the buffer of the request is large and can be freed.
    path: Box<str>,
    request_id: Box<str>,
}

impl Session {
    pub(in crate::http) fn new(source: EventSource, request: &RequestInfo, failed: Failed) -> Self {
        let (path, request_id) = (request.path().into(), request.id().into());
        Self {
            source,
            failed,
            began: Instant::now(),
            path,
            request_id,
        }
    }

    /// Writes the next bytes to `out`. Pending if there are none, false at the end. Must be polled
    /// again until it is pending.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut SendQueue) -> Poll<bool> {
        self.source.poll_next(cx, out).map(|next| match next {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                let error = ApiError::of_read(error);
                let frame = (self.failed)(&error, &self.path, &self.request_id);
                out.write(|out| out.extend_from_slice(&frame));
                true
            }
            None => false,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        let (path, id) = (&self.path, &self.request_id);
        let kind = self.source.kind();
        tracing::info!(%path, seconds, request_id = %id, "{kind} closed");
    }
}

/// Slot of a response that holds its session until the connection or the body takes it.
#[derive(Clone)]
pub(crate) struct DetachableSession(Arc<Mutex<Option<Session>>>);

impl DetachableSession {
    /// Takes the session. The body of the response then stays empty and never ends.
    pub(crate) fn take(&self) -> Option<Session> {
        self.0.lock().take()
    }
}

/// Makes the bytes of a session the body of a response.
pub(in crate::http) fn respond(session: Session, mut response: Response) -> Response {
    let hand_over = DetachableSession(Arc::new(Mutex::new(Some(session))));
    *response.body_mut() = Body::new(SessionBody {
        session: hand_over.clone(),
        out: SendQueue::plain(),
    });
    response.extensions_mut().insert(hand_over);
    response
}

struct SessionBody {
    session: DetachableSession,
    out: SendQueue,
}

impl hyper::body::Body for SessionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { session, out } = &mut *self;
        let mut session = session.0.lock();
        loop {
            if let Some(piece) = out.pop() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(session) = &mut *session else {
                return Poll::Pending;
            };
            match session.poll_next(cx, out) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
