//! Requests that are answered before hyper sees them. hyper then waits for the next request, with
//! nothing left to write.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use httparse::Header;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::{FastAnswer, FastPath, ResponseBytes, WholeRequest};
use crate::net::client_limiter::ClientPeer;
use crate::net::exchange::Exchange;
use crate::net::head::{self, BodyFraming};
use crate::net::serving::Serving;

/// The start of every request that can take the fast path.
const START: &[u8] = b"POST /v1/streams/";

/// The fast path of one connection.
pub(crate) struct FastRequests {
    path: FastPath,
    client: Arc<ClientPeer>,
    exchange: Arc<Exchange>,
    serving: Arc<Serving>,
    step: AnswerStep,
}

/// The request in progress.
enum AnswerStep {
    None,
    Answering(FastAnswer),
    /// The response, and the number of its bytes that were written.
    Writing(ResponseBytes, usize),
}

/// Returns what `seen` returns for `bytes` that are one whole request of HTTP/1.1.
pub(crate) fn scan_whole<T>(
    bytes: &[u8],
    max_head: usize,
    client: impl FnOnce(&[Header<'_>]) -> IpAddr,
    seen: impl FnOnce(&WholeRequest<'_>) -> Option<T>,
) -> Option<T> {
    let scanned = head::scan(bytes, max_head, |request, head| {
        let length = (bytes.len() - head.length) as u64;
        let is_whole = head.body == BodyFraming::Length(length) && request.version == Some(1);
        seen(&WholeRequest {
            method: request.method.filter(|_| is_whole)?,
            target: request.path?,
            headers: request.headers,
            body: &bytes[head.length..],
            client: client(request.headers),
        })
    });
    scanned.ok()??
}

/// Returns the values of a header.
fn values<'a>(
    headers: &'a [Header<'_>],
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    let named = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| header.value)
}

impl FastRequests {
    /// Creates the fast path of a connection. A client with limits does not use it.
    pub(crate) fn new(
        path: Option<FastPath>,
        client: &Arc<ClientPeer>,
        exchange: &Arc<Exchange>,
        serving: &Arc<Serving>,
    ) -> Option<Self> {
        Some(Self {
            path: path?,
            client: Some(client).filter(|client| client.is_unlimited())?.clone(),
            exchange: exchange.clone(),
            serving: serving.clone(),
            step: AnswerStep::None,
        })
    }

    /// Starts answering if `bytes` are one whole request that the fast path takes, and returns
    /// whether it does.
    pub(crate) fn begin(&mut self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(START)
            || !self.exchange.is_settled()
            || self.serving.shutdown.is_draining()
        {
            return false;
        }
        let most = self.serving.max_header_size;
        let client = |headers: &[Header<'_>]| self.client.client(|name| values(headers, name));
        let begun = scan_whole(bytes, most, client, |request| self.path.begin(request));
        let Some(answer) = begun else {
            return false;
        };
        self.exchange.begin_beside();
        self.step = AnswerStep::Answering(answer);
        true
    }

    /// Answers the request in progress. Returns ready when there is none.
    pub(crate) fn poll_answer<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.step {
                AnswerStep::None => return Poll::Ready(Ok(())),
                AnswerStep::Answering(answer) => {
                    let response = ready!(answer.response.as_mut().poll(cx));
                    self.step = AnswerStep::Writing(response, 0);
                }
                AnswerStep::Writing(response, written) => {
                    let left = response.after(*written);
                    if left.is_empty() {
                        ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                        self.end();
                        continue;
                    }
                    match ready!(Pin::new(&mut *stream).poll_write(cx, left))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        more => *written += more,
                    }
                }
            }
        }
    }

    /// Returns whether the request in progress is given up if the client leaves.
    pub(crate) fn ends_with_client(&self) -> bool {
        matches!(&self.step, AnswerStep::Answering(answer) if answer.ends_with_client)
    }

    /// Ends the request in progress, answered or not.
    pub(crate) fn end(&mut self) {
        self.exchange.end_beside();
        self.step = AnswerStep::None;
    }
}
