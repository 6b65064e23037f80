//! The request body of an HTTP/2 stream. An early answer drops the body unread, and hyper then resets
//! the stream right behind that answer. Some clients report the reset and discard the answer when
//! both arrive while they still send (curl 7.88). The gateway therefore receives and discards the
//! rest of the body first, within the bounds of `linger.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;

use crate::net::io::linger::Linger;

/// The place where a body that was dropped unread waits for the task of its stream.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<Mutex<Option<Incoming>>>);

impl Unfinished {
    pub(crate) fn take(&self) -> Option<Incoming> {
        self.0.lock().take()
    }
}

/// A request body that leaves its unread rest behind when it is dropped.
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    unfinished: Unfinished,
}

impl RequestBody {
    pub(crate) fn new(incoming: Incoming, unfinished: Unfinished) -> Self {
        Self {
            incoming: Some(incoming),
            unfinished,
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|body| !body.is_end_stream());
        *self.unfinished.0.lock() = rest;
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        // After the end or an error nothing is left to discard.
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

/// The end of [`Drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The client ended the request or reset the stream.
    Ended,
    /// The client still sends, and a bound was reached.
    Cut,
}

/// Receives and discards the rest of a body.
pub(crate) struct Drain {
    body: Incoming,
    left: u64,
    timeout: Pin<Box<Sleep>>,
}

impl Drain {
    pub(crate) fn new(body: Incoming, linger: Linger) -> Self {
        Self {
            body,
            left: linger.max_bytes,
            timeout: Box::pin(tokio::time::sleep(linger.timeout)),
        }
    }
}

impl Future for Drain {
    type Output = Drained;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drained> {
        if self.timeout.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Drained::Cut);
        }
        loop {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(Drained::Ended);
            };
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            match self.left.checked_sub(length) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Drained::Cut),
            }
        }
    }
}
