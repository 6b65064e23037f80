//! The I/O through which hyper reads an HTTP/1.1 connection. A head passes only if it is complete
//! and well-formed.
//!
//! In place of a malformed head, hyper gets a valid one without a body. The service answers it with
//! the problem ([`Exchange::reject`]), and nothing more is read from the connection. The answer
//! therefore keeps its order, and has a request id, a log line and a count like any other.
//!
//! A request that arrives in one piece, as almost all do, is checked in place and not copied.
//!
//! A request that takes the fast path is answered here, and hyper sees nothing of it.
//!
//! The first bytes also identify a client that speaks HTTP/2 without negotiation.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Malformed;
use crate::net::exchange::{Exchange, Incoming};
use crate::net::framing::{FollowEnd, Http1Framing};
use crate::net::head;
use crate::net::io::fast_requests::FastRequests;
use crate::net::io::forward::forward;

/// The start of the HTTP/2 preface. No HTTP method has this name.
const PREFACE: &[u8] = b"PRI ";
/// Maximum bytes read while a request beside hyper is answered, to notice that the client leaves.
const READ_AHEAD: usize = 4096;
/// The replacement for a malformed head. Its target matches no route of the gateway.
const REFUSED: &[u8] = b"GET * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// The checked I/O of an HTTP/1.1 connection.
pub(crate) struct RequestIo<S> {
    stream: S,
    exchange: Arc<Exchange>,
    /// Absent where every request passes to hyper.
    beside: Option<FastRequests>,
    max_head: usize,
    framing: Http1Framing,
    /// Whether the client may still turn out to speak HTTP/2.
    undecided: bool,
    /// Bytes read but not passed to hyper yet: first those that may pass, then part of a head.
    held: Vec<u8>,
    /// Whether `held` was read while a request beside hyper was answered, and is not checked yet.
    is_ahead: bool,
    /// The number of bytes in `held` that may pass; `passed` counts those that did.
    passable: usize,
    passed: usize,
    /// The reason why no more is read, once reading has ended.
    ended: Option<ReadEnd>,
}

/// The reason why reading has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadEnd {
    Refused,
    BrokenBody,
    Http2,
}

impl<S> RequestIo<S> {
    /// Wraps a stream. If `undecided`, the client may turn out to speak HTTP/2.
    pub(crate) fn new(
        stream: S,
        exchange: Arc<Exchange>,
        max_head: usize,
        undecided: bool,
    ) -> Self {
        Self {
            stream,
            exchange,
            beside: None,
            max_head,
            framing: Http1Framing::Head,
            undecided,
            held: Vec::new(),
            is_ahead: false,
            passable: 0,
            passed: 0,
            ended: None,
        }
    }

    /// Answers requests beside hyper.
    pub(crate) fn with_fast(mut self, beside: Option<FastRequests>) -> Self {
        self.beside = beside;
        self
    }

    /// Takes the bytes just read, if they are a request that is answered beside hyper.
    fn begins_beside(&mut self, new: &[u8]) -> bool {
        let is_at_head = self.held.is_empty() && self.framing == Http1Framing::Head;
        let Some(beside) = self.beside.as_mut().filter(|_| is_at_head) else {
            return false;
        };
        beside.begin(new)
    }

    /// Returns the connection and the bytes read but not passed to hyper.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Copies held bytes to hyper's buffer.
    fn pass(&mut self, buffer: &mut ReadBuf<'_>) {
        let left = &self.held[self.passed..self.passable];
        let length = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..length]);
        self.passed += length;
        if self.passed == self.passable {
            self.held.drain(..self.passable);
            (self.passable, self.passed) = (0, 0);
            if self.held.is_empty() {
                // Free the buffer, which a large head may have grown.
                self.held = Vec::new();
            }
        }
    }

    /// Checks the bytes just read, which are at the end of `buffer`, and leaves those in `buffer`
    /// that may pass immediately.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        if self.held.is_empty() {
            let new = &buffer.filled()[before..];
            let (length, stop) = self.follow_counted(new);
            if stop != FollowEnd::All {
                if stop == FollowEnd::PartialHead {
                    self.held.extend_from_slice(&new[length..]);
                }
                buffer.set_filled(before + length);
            }
            self.stop(stop);
            return;
        }
        // Part of a head is held. It is parsed again only when it can be complete, because a client
        // may send every byte separately.
        let from = self.held.len();
        self.held.extend_from_slice(&buffer.filled()[before..]);
        buffer.set_filled(before);
        self.check_held(from);
    }

    /// Checks the held bytes, of which those before `from` do not complete a head.
    fn check_held(&mut self, from: usize) {
        if self.held.len() <= self.max_head && !head::may_end(&self.held, from) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let (length, stop) = self.follow_counted(&held);
        self.held = held;
        if !matches!(stop, FollowEnd::All | FollowEnd::PartialHead) {
            self.held.truncate(length);
        }
        self.passable = length;
        self.stop(stop);
    }

    fn follow_counted(&mut self, bytes: &[u8]) -> (usize, FollowEnd) {
        let (length, heads, stop) = self.framing.follow(bytes, self.max_head);
        self.exchange.passed(heads);
        (length, stop)
    }

    fn stop(&mut self, stop: FollowEnd) {
        let incoming = match stop {
            FollowEnd::All if self.framing == Http1Framing::Head => Incoming::Nothing,
            FollowEnd::All => Incoming::More,
            FollowEnd::PartialHead => Incoming::Head,
            FollowEnd::Malformed(malformed) => {
                self.refuse(malformed);
                Incoming::More
            }
            FollowEnd::BrokenBody => {
                self.ended = Some(ReadEnd::BrokenBody);
                Incoming::More
            }
        };
        self.exchange.set_incoming(incoming);
    }

    fn refuse(&mut self, malformed: Malformed) {
        self.held.extend_from_slice(REFUSED);
        self.passable = self.held.len();
        self.ended = Some(ReadEnd::Refused);
        self.exchange.passed(1);
        self.exchange.reject(malformed);
    }

    /// Returns true if the new bytes are HTTP/1.1 and still in the buffer. Holds a partial HTTP/2
    /// preface, and passes it to the check of heads once it is something else.
    fn decide(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = &buffer.filled()[before..];
        // In most connections the first bytes decide, and the request stays where it is.
        let is_http1 = |new: &[u8]| !new.starts_with(PREFACE) && !PREFACE.starts_with(new);
        if self.held.is_empty() && is_http1(new) {
            self.undecided = false;
            return true;
        }
        let ended = new.is_empty();
        self.held.extend_from_slice(new);
        buffer.set_filled(before);
        if self.held.starts_with(PREFACE) {
            self.ended = Some(ReadEnd::Http2);
            self.exchange.baton.set_http2();
            return false;
        }
        if !ended && PREFACE.starts_with(&self.held) {
            self.exchange.set_incoming(Incoming::Head);
            return false;
        }
        // Together with the bytes of earlier reads, the new ones may not fit into the buffer.
        self.undecided = false;
        self.check_held(0);
        false
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RequestIo<S> {
    /// Answers a request beside hyper. Returns false, without an answer, if the client has closed the
    /// connection before, and nobody would receive the answer.
    fn poll_beside(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(beside) = &mut self.beside else {
            return Poll::Ready(Ok(true));
        };
        while beside.poll_answer(&mut self.stream, cx)?.is_pending() {
            if !beside.ends_with_client() || !self.held.is_empty() {
                return Poll::Pending;
            }
            let mut ahead = [MaybeUninit::uninit(); READ_AHEAD];
            let mut ahead = ReadBuf::uninit(&mut ahead);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                beside.end();
                return Poll::Ready(Ok(false));
            }
            self.held.extend_from_slice(ahead.filled());
            self.is_ahead = true;
        }
        if std::mem::take(&mut self.is_ahead) {
            self.exchange.set_incoming(Incoming::Head);
            self.check_held(0);
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for RequestIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            if !ready!(this.poll_beside(cx))? {
                return Poll::Ready(Ok(()));
            }
            if this.passable > 0 {
                this.pass(buffer);
                return Poll::Ready(Ok(()));
            }
            match this.ended {
                None => {}
                Some(ReadEnd::BrokenBody) => {
                    let error = "malformed chunked body";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                // The serving loop in `http1.rs` handles these.
                Some(ReadEnd::Refused | ReadEnd::Http2) => return Poll::Pending,
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            if this.undecided && !this.decide(buffer, before) {
                continue;
            }
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if this.begins_beside(&buffer.filled()[before..]) {
                buffer.set_filled(before);
                continue;
            }
            this.take(buffer, before);
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestIo<S> {
    forward!(stream: poll_write, poll_write_vectored, is_write_vectored);

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.exchange.baton.flushed();
        self.exchange.flushed();
        Poll::Ready(Ok(()))
    }

    /// Does nothing: `linger.rs` closes the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
