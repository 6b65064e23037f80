//! A connection that speaks HTTP/1.1: hyper's, with the time-outs that `axum::serve` cannot be given.
//! It may turn out to speak HTTP/2, and it may be left to a subscription.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::connection::{Open, Serving};
use crate::net::handover::{Baton, Lent, Subscriber};
use crate::net::visitors::Visitor;

/// What is left of a connection that hyper has done with.
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is made")]
pub(crate) enum Left<S> {
    Nothing,
    /// A subscription goes on by itself.
    Subscriber(Subscriber<S>),
    /// It speaks HTTP/2; with what it has sent so far.
    Http2(S, Vec<u8>, Visitor, Open),
}

/// Serves a connection. One that is `undecided` may turn out to speak HTTP/2.
pub(crate) async fn serve<S>(
    stream: S,
    undecided: bool,
    router: axum::Router,
    visitor: Visitor,
    open: Open,
    serving: &Serving,
) -> Left<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let baton = Arc::<Baton>::default();
    let lent = TokioIo::new(Lent::new(stream, baton.clone(), undecided));
    let (taking, keep_alive) = (baton.clone(), !visitor.is_turned_away());
    let visitor = Arc::new(visitor);
    let asking = visitor.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (method, version) = (request.method().clone(), request.version());
        let (visitor, router, baton) = (asking.clone(), router.clone(), taking.clone());
        async move {
            let mut response = visitor.answer(router, request).await;
            baton.take_from(&method, version, &mut response);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(serving.header_timeout)
        .max_buf_size(serving.max_header_size)
        .keep_alive(keep_alive);
    let mut connection = Box::pin(builder.serve_connection(lent, service));
    let mut ends = std::pin::pin!(serving.ending.begins());
    let (mut listening, mut asked_to_end) = (false, false);
    let session = std::future::poll_fn(|cx| {
        // Once it has been polled it wakes this task, whose waker stays the same.
        let to_poll = !asked_to_end && (!listening || serving.ending.has_begun());
        listening = true;
        if to_poll && ends.as_mut().poll(cx).is_ready() {
            asked_to_end = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
            return Poll::Ready(None);
        }
        if baton.is_http2() {
            return Poll::Ready(Some(None));
        }
        baton.ready().map_or(Poll::Pending, |session| Poll::Ready(Some(Some(session))))
    });
    let Some(session) = session.await else { return Left::Nothing };
    let (stream, read) = Pin::into_inner(connection).into_parts().io.into_inner().give_back();
    match session {
        Some(session) => Left::Subscriber(Subscriber::new(stream, session, open)),
        // Nobody else has it any more: the service is gone with hyper's part.
        None => match Arc::into_inner(visitor) {
            Some(visitor) => Left::Http2(stream, read, visitor, open),
            None => Left::Nothing,
        },
    }
}
