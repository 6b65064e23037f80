//! A monitored socket to Redis. It reports immediately when the server closes the connection, and
//! counts the bytes written.
//!
//! A server usually closes a connection while it is idle. If the gateway noticed the close only at
//! the next write, that write would fail without anyone knowing whether it had run.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Idle time after which the socket is checked for end of stream before the next write, because the
/// runtime may not have reported the end yet.
const QUIET: Duration = Duration::from_millis(2);

/// The state of a connection, shared with its users.
#[derive(Default)]
pub(in crate::redis) struct ConnectionState {
    /// Cancelled by the socket and by [`CloseOnDrop`] when the connection was closed or failed.
    closed: CancellationToken,
    /// Bytes written. Only the socket updates this.
    written: AtomicU64,
}

impl ConnectionState {
    /// Returns whether the connection is known to be closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Returns the bytes written so far. A command that failed while this count stayed the same was
    /// not sent.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A guard that marks the link closed and notifies `tell`, even when the connection's task panics.
pub(in crate::redis) struct CloseOnDrop {
    pub link: Arc<ConnectionState>,
    pub tell: Arc<Notify>,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.link.closed.cancel();
        self.tell.notify_one();
    }
}

/// A byte stream to a server.
pub(in crate::redis) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns whether the operating system has seen the end of the stream.
    fn has_ended(&self) -> bool;
}

fn has_ended(socket: &impl AsFd) -> bool {
    match SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

impl Socket for TcpStream {
    fn has_ended(&self) -> bool {
        has_ended(self)
    }
}

impl Socket for UnixStream {
    fn has_ended(&self) -> bool {
        has_ended(self)
    }
}

impl Socket for TlsStream<TcpStream> {
    fn has_ended(&self) -> bool {
        has_ended(self.get_ref().0)
    }
}

/// A socket that records its state in a [`ConnectionState`].
pub(in crate::redis) struct MonitoredSocket {
    socket: Box<dyn Socket>,
    link: Arc<ConnectionState>,
    /// Time of the last read or write.
    active: Instant,
}

impl MonitoredSocket {
    pub fn new(socket: Box<dyn Socket>, link: Arc<ConnectionState>) -> Self {
        Self {
            socket,
            link,
            active: Instant::now(),
        }
    }

    /// Returns whether the connection is closed, checking the socket if it was idle.
    fn is_closed(&self) -> bool {
        if self.active.elapsed() > QUIET && self.socket.has_ended() {
            self.link.closed.cancel();
        }
        self.link.is_closed()
    }
}

impl AsyncRead for MonitoredSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buf));
        if read.is_err() || (room > 0 && buf.filled().len() == before) {
            self.link.closed.cancel();
        }
        self.active = Instant::now();
        Poll::Ready(read)
    }
}

impl AsyncWrite for MonitoredSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.link
            .written
            .fetch_add(written as u64, Ordering::Relaxed);
        self.active = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
