//! A fast path for the most common request: one form or JSON entry with few headers, over HTTP/1.1.
//!
//! It answers as the router does, byte for byte, and has no rules of its own: it calls the checks,
//! the parsers, the publish service, the metrics and the log of the normal path. Whatever it does
//! not recognise, it declines before anything has happened, and the request takes the normal path.

mod headers;
mod response;

use std::any::Any;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use httparse::Header;
use prometheus_client::metrics::counter::Counter;

use crate::auth::Principal;
use crate::http::entries::append::answer;
use crate::http::entries::append::body;
use crate::http::entries::append::errors::{alone, publish_error};
use crate::http::entries::append::params::AppendParams;
use crate::http::entries::append::plan::AppendPlan;
use crate::http::extract::access::{Access, Publish};
use crate::http::fast_append::headers::{KnownHeaders, MediaType};
use crate::http::layer::request::ClientAddress;
use crate::http::layer::request_layer::{finish, panicked};
use crate::http::layer::request_record::{REQUEST_ID, RequestRecord, accepted_id};
use crate::http::layer::{admission, request_log};
use crate::http::paths;
use crate::http::state::AppState;
use crate::metrics::{DurationHistogram, RequestLabels};
use crate::model::name::StreamName;
use crate::model::sent::Sent;
use crate::redis::NewEntry;
use crate::service::publish::{PublishError, PublishOptions, Published, Publisher};
use crate::shares;

/// A request that has arrived in one piece, with a well-formed head.
pub(crate) struct WholeRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a [Header<'a>],
    pub(crate) body: &'a [u8],
    /// The address of the client.
    pub(crate) client: IpAddr,
}

/// The bytes of a response, once they are known.
pub(crate) type ResponseBytes = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// The fast path of one worker.
#[derive(Clone)]
pub(crate) struct FastAppend {
    state: AppState,
    /// The number of requests that were answered with 201.
    created: Counter,
    /// The times of all requests of the route.
    times: DurationHistogram,
}

/// An append that is checked and parsed.
struct ParsedAppend {
    stream: StreamName,
    entries: Vec<NewEntry>,
    options: PublishOptions,
    sender: AppendSender,
}

/// What the record of the request needs to know.
struct AppendSender {
    principal: Arc<Principal>,
    began: Instant,
    id: HeaderValue,
    user_agent: Option<HeaderValue>,
    client: IpAddr,
}

impl FastAppend {
    /// Returns the fast path, or `None` if the settings require something of every request that only
    /// the layers of the router do.
    pub(crate) fn new(state: &AppState) -> Option<Self> {
        let settings = &state.settings;
        let is_plain = settings.fast_append
            && settings.origins.is_empty()
            && settings.base_path.as_str().is_empty()
            && state.tracer.is_none();
        let labels = RequestLabels {
            method: "POST",
            route: Arc::from(paths::ENTRIES),
            status: 201,
        };
        if !is_plain {
            return None;
        }
        let metrics = &state.metrics;
        Some(Self {
            state: state.clone(),
            created: metrics.requests.get_or_create(&labels).clone(),
            times: metrics.request_times.of("POST", paths::ENTRIES)?.clone(),
        })
    }

    /// Starts an append. Returns `None`, with nothing done, if the request must take the normal path,
    /// which also answers after a panic.
    pub(crate) fn begin(&self, request: &WholeRequest<'_>) -> Option<ResponseBytes> {
        let parsed = AssertUnwindSafe(|| self.parse(request));
        let append = std::panic::catch_unwind(parsed).ok()??;
        self.state.metrics.fast_appends.inc();
        Some(Box::pin(self.clone().append(append)))
    }

    fn parse(&self, request: &WholeRequest<'_>) -> Option<ParsedAppend> {
        let (began, state) = (Instant::now(), &self.state);
        let (name, maxlen) = named_stream(request)?;
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
        let access = Access::<Publish>::of(principal.clone(), name).ok()?;
        let params = AppendParams::with_maxlen(maxlen);
        let plan = AppendPlan::new(state, &access, &params, &HeaderMap::new()).ok()?;
        let most = state.limits.max_fields;
        let sent = match headers.media_type {
            MediaType::Form => body::form(request.body, most),
            MediaType::Json => body::entry_or_batch(request.body, most),
        };
        let Ok(Sent::One(entry)) = sent else {
            return None;
        };
        if entry.key.is_some() {
            return None;
        }
        Some(ParsedAppend {
            entries: plan.entries.entries(vec![entry], alone).ok()?,
            stream: access.into_stream(),
            options: plan.options,
            sender: AppendSender {
                principal,
                began,
                id: accepted_id(headers.request_id.as_ref()),
                user_agent: headers.user_agent,
                client: request.client,
            },
        })
    }

    async fn append(self, append: ParsedAppend) -> Vec<u8> {
        let ParsedAppend {
            stream,
            entries,
            options,
            sender,
        } = append;
        let (services, to) = (self.state.services.clone(), stream.clone());
        let published = async move {
            let mut publisher = Publisher::new(services, to, options).await?;
            publisher.append_all(entries).await
        };
        let published = shares::scope(sender.principal.usage.account.clone(), published);
        let published = AssertUnwindSafe(published).catch_unwind().await;
        let took = sender.began.elapsed();
        if let Ok(Ok(published)) = &published
            && !request_log::is_told(&self.state, took)
        {
            self.times.observe(took);
            self.created.inc();
            return response::created(&stream, published.last(), &sender.id);
        }
        let record = sender.record(&stream, &self.state);
        response::encode(finish(&self.state, &record, respond(&stream, published)))
    }
}

type Caught = Result<Result<Published, PublishError>, Box<dyn Any + Send>>;

fn respond(stream: &StreamName, published: Caught) -> Response {
    match published {
        Ok(Ok(published)) => answer::all(stream, &published, false, None, None),
        Ok(Err(error)) => publish_error(error, alone).into_response(),
        Err(panic) => panicked(&*panic),
    }
}

/// Returns the stream and `maxlen` of a request that may take the fast path, whatever its body and
/// the settings. For tests with arbitrary input.
pub(crate) fn recognise<'a>(request: &WholeRequest<'a>) -> Option<(&'a str, Option<u64>)> {
    KnownHeaders::read(request.headers)?;
    named_stream(request)
}

/// Returns the stream and `maxlen` of `POST /v1/streams/NAME/entries?maxlen=N`. The name has no
/// character that a path may encode.
fn named_stream<'a>(request: &WholeRequest<'a>) -> Option<(&'a str, Option<u64>)> {
    if request.method != "POST" {
        return None;
    }
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.target, None),
    };
    let maxlen = match query.map(|query| query.strip_prefix("maxlen=")) {
        None => None,
        Some(Some(digits)) if is_number(digits) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    let name = path
        .strip_prefix("/v1/streams/")?
        .strip_suffix("/entries")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (has_letter && name.bytes().all(is_plain)).then_some((name, maxlen))
}

/// Whether a text is a number below 10^18, as it is usually written.
fn is_number(digits: &str) -> bool {
    (1..=18).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

impl AppendSender {
    /// Returns the record of the request, as the outermost layer makes it.
    fn record(self, stream: &StreamName, state: &AppState) -> RequestRecord {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::POST;
        let path = format!("/v1/streams/{}/entries", stream.public_name());
        // The name has no character that a path may encode.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(REQUEST_ID, self.id);
        headers.extend(self.user_agent.map(|agent| (USER_AGENT, agent)));
        request.extensions_mut().insert(ClientAddress(self.client));
        RequestRecord::routed(
            &mut request,
            self.principal,
            &state.settings.base_path,
            (paths::ENTRIES, self.began),
        )
    }
}
