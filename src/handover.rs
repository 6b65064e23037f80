//! Taking a connection over from hyper once the head of an answer is out.
//!
//! A subscriber is quiet for most of its life, and hyper keeps buffers and the state of a request
//! for it as long: several times what the subscription itself needs. So where an answer is nothing
//! but a subscription on HTTP/1.1, hyper writes its head and is then left; what remains is a socket
//! and a session ([`Subscriber`]), which writes chunks by itself and closes when the session ends.
//! Every other answer, and every other protocol, takes the same session as an ordinary body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::http::{Method, Version};
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::api::{HandOver, Session};
use crate::live::Out;
use crate::metrics::Held;
use crate::unread::Unread;

/// Pieces in one write.
const SLICES: usize = 16;
/// Bytes a subscriber may send, who has nothing to say.
const MAX_CHATTER: usize = 64 << 10;

/// What a connection shares with the answers it gives: the session that is to take it over.
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

impl Baton {
    /// Takes the session out of an answer, if the connection can be left to it.
    pub(crate) fn take_from(&self, method: &Method, version: Version, response: &mut Response) {
        let fits = method == Method::GET && version == Version::HTTP_11;
        let Some(hand_over) = response.extensions_mut().remove::<HandOver>().filter(|_| fits)
        else {
            return;
        };
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = hand_over.take();
        self.step.store(TAKEN, Ordering::Release);
    }

    /// Hyper has written all it had.
    fn flushed(&self) {
        // The head is encoded in the very poll that takes the answer, before anything is flushed.
        let _ = self.step.compare_exchange(TAKEN, HEAD_SENT, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The session, once hyper may be left.
    pub(crate) fn ready(&self) -> Option<Session> {
        if self.step.load(Ordering::Acquire) != HEAD_SENT {
            return None;
        }
        self.step.store(IDLE, Ordering::Release);
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The connection as hyper has it.
pub(crate) struct Lent {
    stream: Unread<TcpStream>,
    baton: Arc<Baton>,
}

impl Lent {
    pub(crate) fn new(stream: Unread<TcpStream>, baton: Arc<Baton>) -> Self {
        Self { stream, baton }
    }

    pub(crate) fn give_back(self) -> Unread<TcpStream> {
        self.stream
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.baton.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that has nothing left but a subscription. Runs until either side ends it.
pub(crate) struct Subscriber {
    stream: Unread<TcpStream>,
    /// Gone when it has said all.
    session: Option<Session>,
    out: Out,
    /// Bytes the client has sent since.
    chatter: usize,
    _held: Held,
}

impl Subscriber {
    pub(crate) fn new(stream: Unread<TcpStream>, session: Session, held: Held) -> Self {
        Self { stream, session: Some(session), out: Out::chunked(), chatter: 0, _held: held }
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
        Poll::Ready(Ok(()))
    }
}

impl Future for Subscriber {
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
