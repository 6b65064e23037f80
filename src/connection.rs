//! One connection from a client: hyper's, with the time-outs that `axum::serve` cannot be given.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::api::OverConnectionLimit;
use crate::handover::{Baton, Lent, Subscriber};
use crate::metrics::Held;
use crate::unread::Unread;

/// A quiet connection is asked whether its peer is there after so long, and again as often.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// A connection that is yet to be served.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    /// It is one too many, and is told so.
    pub(crate) over: bool,
    pub(crate) header_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) unread: Counter,
    pub(crate) drain: CancellationToken,
    /// Counts it for as long as it lasts.
    pub(crate) held: Held,
}

impl Accepted {
    /// Serves it on the runtime of the caller, to its end or until nothing is left of it but a
    /// subscription.
    pub(crate) async fn serve(self, router: axum::Router) -> Option<Subscriber> {
        let (over, drain, held) = (self.over, self.drain, self.held);
        set_options(&self.stream, self.write_timeout);
        let stream = match TcpStream::from_std(self.stream) {
            Ok(stream) => Unread::new(stream, self.write_timeout, self.unread),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be served");
                return None;
            }
        };
        let baton = Arc::<Baton>::default();
        let lent = TokioIo::new(Lent::new(stream, baton.clone()));
        let taking = baton.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            if over {
                request.extensions_mut().insert(OverConnectionLimit);
            }
            let (method, version) = (request.method().clone(), request.version());
            let (answer, baton) = (router.clone().oneshot(request), taking.clone());
            async move {
                let mut response = answer.await?;
                baton.take_from(&method, version, &mut response);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).keep_alive(!over);
        let mut connection = Box::pin(builder.serve_connection(lent, service));
        let mut draining = std::pin::pin!(drain.cancelled());
        let mut asked_to_end = false;
        let session = std::future::poll_fn(|cx| {
            if !asked_to_end && draining.as_mut().poll(cx).is_ready() {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return Poll::Ready(None);
            }
            baton.ready().map_or(Poll::Pending, |session| Poll::Ready(Some(session)))
        });
        let session = session.await?;
        let lent = Pin::into_inner(connection).into_parts().io.into_inner();
        Some(Subscriber::new(lent.give_back(), session, held))
    }
}

/// What makes small frames leave at once, and a peer that has vanished be noticed.
fn set_options(stream: &std::net::TcpStream, write_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // For what was sent and is not even received. Later than our own bound, which counts.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(write_timeout + KEEPALIVE.0));
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
}
