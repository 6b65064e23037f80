//! Taking a connection over from hyper once the head of an answer is out.
//!
//! A subscriber is quiet for most of its life, and hyper keeps buffers and the state of a request
//! for it as long: several times what the subscription itself needs. So where an answer is nothing
//! but a subscription on HTTP/1.1, hyper writes its head and is then left; what remains is a socket
//! and a session ([`Subscriber`]), which writes chunks by itself and closes when the session ends,
//! through TLS as without. Every other answer, and HTTP/2, takes the same session as an ordinary body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Version};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{HandOver, Session};
use crate::live::Out;
use crate::net::connection::Open;

/// Pieces in one write.
const SLICES: usize = 16;
/// Bytes a subscriber may send, who has nothing to say.
const MAX_CHATTER: usize = 64 << 10;

/// The session in an answer that is to take its connection over.
#[derive(Default)]
pub(crate) struct Baton {
    session: Mutex<Option<Session>>,
    step: AtomicU8,
}

/// Nothing is to be taken over.
const IDLE: u8 = 0;
/// The head is with hyper.
const TAKEN: u8 = 1;
/// The head was handed to the socket.
const HEAD_SENT: u8 = 2;
/// The client speaks HTTP/2.
const HTTP_2: u8 = 3;

impl Baton {
    /// Takes the session out of an answer, if the connection can be left to it.
    pub(crate) fn take_from(&self, method: &Method, version: Version, response: &mut Response) {
        let fits = method == Method::GET && version == Version::HTTP_11;
        let Some(hand_over) = response
            .extensions_mut()
            .remove::<HandOver>()
            .filter(|_| fits)
        else {
            return;
        };
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = hand_over.take();
        // Nothing comes after the session: a client that kept the connection for its next request would
        // lose that now and then.
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        self.step.store(TAKEN, Ordering::Release);
    }

    /// Hyper has written all it had.
    pub(crate) fn flushed(&self) {
        // The head is encoded in the very poll that takes the answer, before anything is flushed.
        let _ = self
            .step
            .compare_exchange(TAKEN, HEAD_SENT, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The session, once hyper may be left.
    pub(crate) fn ready(&self) -> Option<Session> {
        if self.step.load(Ordering::Acquire) != HEAD_SENT {
            return None;
        }
        self.step.store(IDLE, Ordering::Release);
        self.session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Notes that the client speaks HTTP/2.
    pub(crate) fn set_http2(&self) {
        self.step.store(HTTP_2, Ordering::Release);
    }

    /// Whether the client turned out to speak HTTP/2: hyper has seen nothing of it.
    pub(crate) fn is_http2(&self) -> bool {
        self.step.load(Ordering::Acquire) == HTTP_2
    }
}

/// A connection that has nothing left but a subscription. Runs until either side ends it.
pub(crate) struct Subscriber<S> {
    stream: S,
    /// Gone when it has said all.
    session: Option<Session>,
    out: Out,
    /// Bytes the client has sent since.
    chatter: usize,
    _open: Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscriber<S> {
    pub(crate) fn new(stream: S, session: Session, open: Open) -> Self {
        Self {
            stream,
            session: Some(session),
            out: Out::chunked(),
            chatter: 0,
            _open: open,
        }
    }

    /// Ready when the client has gone, or talks and talks.
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
        // What TLS has taken it need not have sent.
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
                tracing::debug!(%error, "a subscriber's connection broke");
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
