//! Takeover of a connection from hyper after the head of an answer is sent.
//!
//! A subscriber is idle most of the time, but hyper would keep buffers and request state for it.
//! These take several times the memory of the subscription itself. If an HTTP/1.1 answer is a
//! subscription, hyper therefore only writes the head. The rest is a socket and a session
//! ([`Subscriber`]), which writes the chunks and closes the connection when the session ends. This
//! works with and without TLS. Other answers, and HTTP/2, use the same session as an ordinary body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Version};
use axum::response::Response;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{DetachableSession, Session};
use crate::live::SendQueue;
use crate::net::serving::OpenGuard;

/// Maximum number of slices in one vectored write.
const SLICES: usize = 16;
/// Maximum number of bytes that a subscriber may send. A subscriber has no reason to send any.
const MAX_CHATTER: usize = 64 << 10;

/// The slot for a session that takes over its connection.
#[derive(Default)]
pub(crate) struct Takeover {
    session: Mutex<Option<Session>>,
    step: AtomicU8,
}

/// No takeover is pending.
const IDLE: u8 = 0;
/// The session was taken from the answer; hyper has the head.
const TAKEN: u8 = 1;
/// The head was written to the socket.
const HEAD_SENT: u8 = 2;
/// The client speaks HTTP/2.
const HTTP_2: u8 = 3;

impl Takeover {
    /// Takes the session out of an answer if it can take over the connection.
    pub(crate) fn take_from(&self, method: &Method, version: Version, response: &mut Response) {
        let fits = method == Method::GET && version == Version::HTTP_11;
        let Some(hand_over) = response
            .extensions_mut()
            .remove::<DetachableSession>()
            .filter(|_| fits)
        else {
            return;
        };
        *self.session.lock() = hand_over.take();
        // The connection closes after the session. A client that reused the connection for its next
        // request would sometimes lose that request.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        self.step.store(TAKEN, Ordering::Release);
    }

    /// Records that hyper has flushed its output.
    pub(crate) fn flushed(&self) {
        // hyper encodes the head in the same poll that takes the answer, before any flush.
        let _ = self
            .step
            .compare_exchange(TAKEN, HEAD_SENT, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Returns the session once hyper no longer needs the connection.
    pub(crate) fn ready(&self) -> Option<Session> {
        if self.step.load(Ordering::Acquire) != HEAD_SENT {
            return None;
        }
        self.step.store(IDLE, Ordering::Release);
        self.session.lock().take()
    }

    /// Records that the client speaks HTTP/2.
    pub(crate) fn set_http2(&self) {
        self.step.store(HTTP_2, Ordering::Release);
    }

    /// Returns whether the client speaks HTTP/2. hyper has not seen any of its bytes then.
    pub(crate) fn is_http2(&self) -> bool {
        self.step.load(Ordering::Acquire) == HTTP_2
    }
}

/// A connection that only carries a subscription. Runs until either side ends it.
pub(crate) struct Subscriber<S> {
    stream: S,
    /// `None` once the session has ended.
    session: Option<Session>,
    out: SendQueue,
    /// Bytes that the client has sent since the takeover.
    chatter: usize,
    _open: OpenGuard,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscriber<S> {
    pub(crate) fn new(stream: S, session: Session, open: OpenGuard) -> Self {
        Self {
            stream,
            session: Some(session),
            out: SendQueue::chunked(),
            chatter: 0,
            _open: open,
        }
    }

    /// Returns ready when the client has disconnected or sent more than [`MAX_CHATTER`] bytes.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.chatter += buffer.filled().len(),
                _ => return Poll::Ready(()),
            }
            if self.chatter > MAX_CHATTER {
                return Poll::Ready(());
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.out.slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            let written = match &slices[..count] {
                [one] => ready!(stream.poll_write(cx, one))?,
                several => ready!(stream.poll_write_vectored(cx, several))?,
            };
            self.out.advance(written);
        }
        // TLS may have buffered data that it has not sent.
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Subscriber<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let Err(error) = ready!(this.poll_write(cx)) {
                tracing::debug!(%error, "subscriber connection failed");
                return Poll::Ready(());
            }
            let Some(session) = &mut this.session else {
                let _ = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
                return Poll::Ready(());
            };
            if !ready!(session.poll_next(cx, &mut this.out)) {
                this.session = None;
                this.out.end();
            }
        }
    }
}
