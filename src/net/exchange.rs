//! The state that the parts of one connection of HTTP/1.1 share: its I/O (`request_io.rs`), the
//! service that answers, and the loop that serves (`http1.rs`). All run on one thread, one after the
//! other.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::Malformed;
use crate::net::takeover::Baton;

/// The place in the stream of requests that was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Incoming {
    /// Between two requests.
    Nothing = 0,
    /// Within a head.
    Head = 1,
    /// Within a body, or after a head that is refused.
    More = 2,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A head, the first one included.
    Head,
    /// The next request.
    Idle,
    /// The end of an answer.
    Answering,
}

/// One connection.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) baton: Baton,
    /// Written by the I/O.
    incoming: AtomicU8,
    /// Heads passed on; written by the I/O.
    heads: AtomicU64,
    /// Requests that the service got; written by the service.
    requests: AtomicU64,
    /// Written by the service, and by the body of the answer when it ends.
    answering: AtomicBool,
    /// The fault of the last head, which is passed on as a request without one; written by the I/O.
    malformed: OnceLock<Malformed>,
}

impl Exchange {
    /// Counts heads that are passed on.
    pub(crate) fn passed(&self, heads: u64) {
        self.heads.fetch_add(heads, Relaxed);
    }

    pub(crate) fn set_incoming(&self, incoming: Incoming) {
        self.incoming.store(incoming as u8, Relaxed);
    }

    /// Notes that the last head passed on stands for one that is refused.
    pub(crate) fn reject(&self, malformed: Malformed) {
        let _ = self.malformed.set(malformed);
    }

    /// Whether the client may still be sending, other than its next request.
    pub(crate) fn is_sending(&self) -> bool {
        self.incoming.load(Relaxed) == Incoming::More as u8
    }

    /// Whether a part of a head is there.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.incoming.load(Relaxed) == Incoming::Head as u8
    }

    /// Whether more of the request that is answered is to come: no other head was passed on since.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_sending() && self.requests() == self.heads.load(Relaxed)
    }

    /// Takes up a request: the fault of its head, if it has one.
    pub(crate) fn begin(&self) -> Option<Malformed> {
        self.answering.store(true, Relaxed);
        let nth = self.requests.fetch_add(1, Relaxed) + 1;
        self.malformed
            .get()
            .filter(|_| nth == self.heads.load(Relaxed))
            .copied()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.answering.load(Relaxed) {
            Phase::Answering
        } else if self.requests() == 0 || self.has_partial_head() {
            Phase::Head
        } else {
            Phase::Idle
        }
    }
}

/// The body of an answer, which ends the exchange when hyper is done with it.
pub(crate) struct AnswerBody {
    body: axum::body::Body,
    exchange: Arc<Exchange>,
}

impl AnswerBody {
    pub(crate) fn new(body: axum::body::Body, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.exchange.answering.store(false, Relaxed);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
