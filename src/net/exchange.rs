//! The shared state of one HTTP/1.1 connection. Its users are the I/O (`request_io.rs`), the
//! service that answers, and the serving loop (`http1.rs`). All run on one thread, one after the
//! other.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::http::Malformed;
use crate::net::takeover::Takeover;

/// The position in the request bytes that the I/O has passed to hyper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Incoming {
    /// Between two requests.
    Nothing = 0,
    /// Inside a head.
    Head = 1,
    /// Inside a body, or after a rejected head.
    More = 2,
}

/// The event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangePhase {
    /// The rest of a head, or the first head.
    Head,
    /// The next request.
    Idle,
    /// The end of an answer.
    Answering,
}

/// The shared state of one connection.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) baton: Takeover,
    /// Written by the I/O.
    incoming: AtomicU8,
    /// The number of heads passed to hyper; written by the I/O.
    heads: AtomicU64,
    /// The number of requests the service received; written by the service.
    requests: AtomicU64,
    /// Whether an answer is in progress. Set by the service, cleared when the answer's body ends.
    answering: AtomicBool,
    /// Whether hyper may hold bytes of an answer. Set by the service, cleared by the I/O.
    unflushed: AtomicBool,
    /// The fault of the last head, for which hyper got a valid replacement; written by the I/O.
    malformed: OnceLock<Malformed>,
}

impl Exchange {
    /// Adds to the number of heads passed to hyper.
    pub(crate) fn passed(&self, heads: u64) {
        self.heads.fetch_add(heads, Relaxed);
    }

    pub(crate) fn set_incoming(&self, incoming: Incoming) {
        self.incoming.store(incoming as u8, Relaxed);
    }

    /// Records that the last head passed to hyper replaces a malformed one.
    pub(crate) fn reject(&self, malformed: Malformed) {
        let _ = self.malformed.set(malformed);
    }

    /// Returns whether the client may still be sending anything other than its next request.
    pub(crate) fn is_sending(&self) -> bool {
        self.incoming.load(Relaxed) == Incoming::More as u8
    }

    /// Returns whether part of a head has arrived.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.incoming.load(Relaxed) == Incoming::Head as u8
    }

    /// Returns whether more of the current request is still to come, that is, no later head was
    /// passed to hyper.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.is_sending() && self.requests() == self.heads.load(Relaxed)
    }

    /// Starts a request. Returns the fault of its head, if it is malformed.
    pub(crate) fn begin(&self) -> Option<Malformed> {
        self.answering.store(true, Relaxed);
        self.unflushed.store(true, Relaxed);
        let nth = self.requests.fetch_add(1, Relaxed) + 1;
        self.malformed
            .get()
            .filter(|_| nth == self.heads.load(Relaxed))
            .copied()
    }

    /// Records that hyper has flushed its output.
    pub(crate) fn flushed(&self) {
        if !self.answering.load(Relaxed) {
            self.unflushed.store(false, Relaxed);
        }
    }

    /// Returns whether hyper has answered every request that it got, and has nothing left to write.
    pub(crate) fn is_settled(&self) -> bool {
        !self.answering.load(Relaxed)
            && !self.unflushed.load(Relaxed)
            && self.requests() == self.heads.load(Relaxed)
    }

    /// Starts a request that is answered before hyper sees it. Like a request whose head has partly
    /// arrived, it keeps the connection open during a shutdown.
    pub(crate) fn begin_beside(&self) {
        self.passed(1);
        self.requests.fetch_add(1, Relaxed);
        self.answering.store(true, Relaxed);
        self.set_incoming(Incoming::Head);
    }

    /// Ends a request that hyper did not see.
    pub(crate) fn end_beside(&self) {
        self.set_incoming(Incoming::Nothing);
        self.answering.store(false, Relaxed);
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(crate) fn phase(&self) -> ExchangePhase {
        if self.answering.load(Relaxed) {
            ExchangePhase::Answering
        } else if self.requests() == 0 || self.has_partial_head() {
            ExchangePhase::Head
        } else {
            ExchangePhase::Idle
        }
    }
}

/// The body of an answer. Marks the answer as ended when hyper drops it.
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
