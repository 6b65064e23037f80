//! A fast path for the most common requests over HTTP/1.1: an append of one form or JSON entry, a read
//! of a group, and an acknowledgment, each with few headers.
//!
//! It answers as the router does, byte for byte, and has no rules of its own: it calls the checks,
//! the parsers, the services, the metrics and the log of the normal path. Whatever it does not
//! recognise, it declines before anything has happened, and the request takes the normal path.

mod ack;
mod append;
mod headers;
mod read;
mod request;
mod response;
mod target;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderValue, Method};
use axum::response::IntoResponse as _;
use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;

use crate::auth::Principal;
use crate::http::fast_path::ack::FastAck;
use crate::http::fast_path::append::FastAppend;
use crate::http::fast_path::headers::KnownHeaders;
use crate::http::fast_path::read::FastRead;
use crate::http::fast_path::request::FastRequest;
pub(crate) use crate::http::fast_path::request::WholeRequest;
pub(crate) use crate::http::fast_path::response::ResponseBytes;
pub use crate::http::fast_path::target::FastTarget;
use crate::http::layer::request::ClientAddress;
use crate::http::layer::request_layer::{finish, panicked};
use crate::http::layer::request_record::{REQUEST_ID, RequestRecord, accepted_id};
use crate::http::layer::{admission, request_log};
use crate::http::state::AppState;
use crate::metrics::{DurationHistogram, RequestLabels};
use crate::model::name::{GroupName, StreamName};
use crate::shares;

/// A request that the fast path answers.
pub(crate) struct FastAnswer {
    /// Ends with the response.
    pub(crate) response: Pin<Box<dyn Future<Output = ResponseBytes> + Send>>,
    /// Whether the request is given up if the client leaves before it is answered.
    pub(crate) ends_with_client: bool,
}

/// The fast path of one worker.
#[derive(Clone)]
pub(crate) struct FastPath(Arc<PathState>);

struct PathState {
    state: AppState,
    append: RouteMetrics,
    read: RouteMetrics,
    ack: RouteMetrics,
}

/// The metrics of one route.
struct RouteMetrics {
    /// The number of requests that succeeded.
    succeeded: Counter,
    /// The times of all requests.
    times: DurationHistogram,
}

/// What the record of a request needs to know.
struct Sender {
    principal: Arc<Principal>,
    began: Instant,
    id: HeaderValue,
    user_agent: Option<HeaderValue>,
    client: IpAddr,
}

impl FastPath {
    /// Returns the fast path, or `None` if the settings require something of every request that only
    /// the layers of the router do.
    pub(crate) fn new(state: &AppState) -> Option<Self> {
        let settings = &state.settings;
        let is_plain = settings.fast_path
            && settings.origins.is_empty()
            && settings.base_path.as_str().is_empty()
            && state.tracer.is_none();
        if !is_plain {
            return None;
        }
        Some(Self(Arc::new(PathState {
            append: RouteMetrics::of::<FastAppend>(state)?,
            read: RouteMetrics::of::<FastRead>(state)?,
            ack: RouteMetrics::of::<FastAck>(state)?,
            state: state.clone(),
        })))
    }

    /// Starts to answer a request. Returns `None`, with nothing done, if it must take the normal path,
    /// which also answers after a panic.
    pub(crate) fn begin(&self, request: &WholeRequest<'_>) -> Option<FastAnswer> {
        let begin = AssertUnwindSafe(|| self.parse_and_begin(request));
        std::panic::catch_unwind(begin).ok()?
    }

    fn parse_and_begin(&self, request: &WholeRequest<'_>) -> Option<FastAnswer> {
        let (began, state) = (Instant::now(), &self.0.state);
        let target = FastTarget::of(request)?;
        let headers = KnownHeaders::read(request.headers)?;
        if headers.is_traced && state.settings.trace_context {
            return None;
        }
        if !admission::allows_host(state, headers.host)
            || request.body.len() > state.settings.max_body
        {
            return None;
        }
        let principal = match state.auth.is_on() {
            false => state.auth.anyone().clone(),
            true => state.auth.identify(headers.credential()?).ok()?,
        };
        if principal.usage.requests.is_some() {
            return None;
        }
        let sent = (headers.media_type, request.body);
        let sender = |principal| Sender {
            principal,
            began,
            id: accepted_id(headers.request_id.as_ref()),
            user_agent: headers.user_agent.clone(),
            client: request.client,
        };
        match target {
            FastTarget::Append { stream, maxlen } => {
                let append = FastAppend::parse(state, &principal, (stream, maxlen), sent)?;
                Some(self.start(append, sender(principal), false))
            }
            FastTarget::Read { stream, group } => {
                let read = FastRead::parse(&principal, (stream, group), sent);
                let read = read.filter(|_| headers.accepts_json)?;
                // What nobody receives is handed back.
                Some(self.start(read, sender(principal), true))
            }
            FastTarget::Ack { stream, group } => {
                let ack = FastAck::parse(&principal, (stream, group), sent)?;
                Some(self.start(ack, sender(principal), false))
            }
        }
    }

    fn start<R: FastRequest>(
        &self,
        request: R,
        sender: Sender,
        ends_with_client: bool,
    ) -> FastAnswer {
        self.0.state.metrics.fast_requests.inc();
        FastAnswer {
            response: Box::pin(self.clone().answer(request, sender)),
            ends_with_client,
        }
    }

    async fn answer<R: FastRequest>(self, request: R, sender: Sender) -> ResponseBytes {
        let state = &self.0.state;
        let names = request.names();
        let account = sender.principal.usage.account.clone();
        let answer = shares::scope(account, request.answer(state));
        let answered = AssertUnwindSafe(answer).catch_unwind().await;
        let took = sender.began.elapsed();
        if let Ok(Ok(success)) = &answered
            && success.is_small()
            && !request_log::is_told(state, took, success.has_waited)
        {
            let metrics = self.metrics::<R>();
            if !success.has_waited {
                metrics.times.observe(took);
            }
            metrics.succeeded.inc();
            return success.encode(&sender.id);
        }
        let response = match answered {
            Ok(Ok(success)) => success.into_response(),
            Ok(Err(refused)) => refused,
            Err(panic) => panicked(&*panic),
        };
        let record = sender.record(R::ROUTE, names, state);
        response::encode(finish(state, &record, response))
    }

    fn metrics<R: FastRequest>(&self) -> &RouteMetrics {
        match R::ROUTE {
            FastAppend::ROUTE => &self.0.append,
            FastRead::ROUTE => &self.0.read,
            _ => &self.0.ack,
        }
    }
}

impl RouteMetrics {
    fn of<R: FastRequest>(state: &AppState) -> Option<Self> {
        let labels = RequestLabels {
            method: "POST",
            route: Arc::from(R::ROUTE),
            status: R::STATUS,
        };
        Some(Self {
            succeeded: state.metrics.requests.get_or_create(&labels).clone(),
            times: state.metrics.request_times.of("POST", R::ROUTE)?.clone(),
        })
    }
}

/// Returns the target of a request that may take the fast path, whatever its body and the settings.
/// For tests with arbitrary input.
pub(crate) fn recognise<'a>(request: &WholeRequest<'a>) -> Option<FastTarget<'a>> {
    KnownHeaders::read(request.headers)?;
    FastTarget::of(request)
}

impl Sender {
    /// Returns the record of the request, as the outermost layer makes it.
    fn record(
        self,
        route: &'static str,
        (stream, group): (StreamName, Option<GroupName>),
        state: &AppState,
    ) -> RequestRecord {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::POST;
        // The names have no character that a path may encode.
        let path = route.replace("{stream}", &stream.public_name());
        let path = match group {
            Some(group) => path.replace("{group}", &group.to_string()),
            None => path,
        };
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(REQUEST_ID, self.id);
        headers.extend(self.user_agent.map(|agent| (USER_AGENT, agent)));
        request.extensions_mut().insert(ClientAddress(self.client));
        RequestRecord::routed(
            &mut request,
            self.principal,
            &state.settings.base_path,
            (route, self.began),
        )
    }
}
