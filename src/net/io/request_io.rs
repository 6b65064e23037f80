//! A connection as hyper reads it: heads pass only when they are whole and well-formed.
//!
//! Instead of a head that is refused, hyper gets one without a fault and without a body, which the
//! service answers with the problem ([`Exchange::reject`]); nothing of the connection is read after
//! that. So such an answer comes in its turn, and has an id, a log line and a count like any other.
//! A whole request in one piece, as nearly all are, is checked where it lies and not copied.
//!
//! The first bytes also tell a client that speaks HTTP/2 without having been asked for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Malformed;
use crate::net::exchange::{Exchange, Incoming};
use crate::net::framing::{Framing, Stop};
use crate::net::head;

/// The beginning of the preface of HTTP/2: there is no such method.
const PREFACE: &[u8] = b"PRI ";
/// Stands for a head that is refused. Its target is none of the gateway's routes.
const REFUSED: &[u8] = b"GET * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// The I/O of a connection of HTTP/1.1.
pub(crate) struct RequestIo<S> {
    stream: S,
    exchange: Arc<Exchange>,
    max_head: usize,
    framing: Framing,
    /// Whether the client may yet turn out to speak HTTP/2.
    undecided: bool,
    /// Bytes that were read and not passed on: first those that may be, then a part of a head.
    held: Vec<u8>,
    /// The number of bytes in `held` that may be passed on, and of those that were.
    passable: usize,
    passed: usize,
    /// No more is read.
    ended: Option<End>,
}

/// The reason why no more is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Refused,
    BrokenBody,
    Http2,
}

impl<S> RequestIo<S> {
    /// The I/O of a client that may turn out to speak HTTP/2 if `undecided`.
    pub(crate) fn new(
        stream: S,
        exchange: Arc<Exchange>,
        max_head: usize,
        undecided: bool,
    ) -> Self {
        Self {
            stream,
            exchange,
            max_head,
            framing: Framing::Head,
            undecided,
            held: Vec::new(),
            passable: 0,
            passed: 0,
            ended: None,
        }
    }

    /// The connection, with what was read and not passed on.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Passes held bytes on.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = &self.held[self.passed..self.passable];
        let length = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..length]);
        self.passed += length;
        if self.passed == self.passable {
            self.held.drain(..self.passable);
            (self.passable, self.passed) = (0, 0);
            if self.held.is_empty() {
                // A large head is no reason to keep its memory.
                self.held = Vec::new();
            }
        }
    }

    /// Follows what was just read, which stands at the end of `buffer`, and leaves there what may be
    /// passed on at once.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        if self.held.is_empty() {
            let new = &buffer.filled()[before..];
            let (length, stop) = self.follow_counted(new);
            if stop != Stop::All {
                if stop == Stop::PartialHead {
                    self.held.extend_from_slice(&new[length..]);
                }
                buffer.set_filled(before + length);
            }
            self.stop(stop);
            return;
        }
        // A part of a head is held. It is parsed again once it may be whole: each byte might come alone.
        let from = self.held.len();
        self.held.extend_from_slice(&buffer.filled()[before..]);
        buffer.set_filled(before);
        if self.held.len() <= self.max_head && !head::may_end(&self.held, from) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let (length, stop) = self.follow_counted(&held);
        self.held = held;
        if !matches!(stop, Stop::All | Stop::PartialHead) {
            self.held.truncate(length);
        }
        self.passable = length;
        self.stop(stop);
    }

    fn follow_counted(&mut self, bytes: &[u8]) -> (usize, Stop) {
        let (length, heads, stop) = self.framing.follow(bytes, self.max_head);
        self.exchange.passed(heads);
        (length, stop)
    }

    fn stop(&mut self, stop: Stop) {
        let incoming = match stop {
            Stop::All if self.framing == Framing::Head => Incoming::Nothing,
            Stop::All => Incoming::More,
            Stop::PartialHead => Incoming::Head,
            Stop::Malformed(malformed) => {
                self.refuse(malformed);
                Incoming::More
            }
            Stop::BrokenBody => {
                self.ended = Some(End::BrokenBody);
                Incoming::More
            }
        };
        self.exchange.set_incoming(incoming);
    }

    fn refuse(&mut self, malformed: Malformed) {
        self.held.extend_from_slice(REFUSED);
        self.passable = self.held.len();
        self.ended = Some(End::Refused);
        self.exchange.passed(1);
        self.exchange.reject(malformed);
    }

    /// Whether enough was read to tell HTTP/2 from HTTP/1.1. What there is of a preface is held.
    fn decide(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = &buffer.filled()[before..];
        // Nearly always: a whole request, of which not a byte is moved.
        if self.held.is_empty() && !new.is_empty() && new[0] != PREFACE[0] {
            self.undecided = false;
            return true;
        }
        let ended = new.is_empty();
        self.held.extend_from_slice(new);
        buffer.set_filled(before);
        if self.held.starts_with(PREFACE) {
            self.ended = Some(End::Http2);
            self.exchange.baton.set_http2();
            return false;
        }
        if !ended && PREFACE.starts_with(&self.held) {
            self.exchange.set_incoming(Incoming::Head);
            return false;
        }
        self.undecided = false;
        // Never more than the buffer has room for: all but the last read were of three bytes.
        let length = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held[..length]);
        self.held = Vec::new();
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            if this.passable > 0 {
                this.pass(buffer);
                return Poll::Ready(Ok(()));
            }
            match this.ended {
                None => {}
                Some(End::BrokenBody) => {
                    let error = "a chunked body with a fault";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                // The loop that serves does the rest.
                Some(End::Refused | End::Http2) => return Poll::Pending,
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if this.undecided && !this.decide(buffer, before) {
                continue;
            }
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.take(buffer, before);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestIo<S> {
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
        self.exchange.baton.flushed();
        Poll::Ready(Ok(()))
    }

    /// Leaves the connection open: how it ends is up to `linger.rs`.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
