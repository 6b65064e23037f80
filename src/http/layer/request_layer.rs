//! The outermost layer: request ids, request log, metrics and problem bodies for all requests.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::http::error::excerpt::shortened;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::single_header::single;
use crate::http::layer::admission;
use crate::http::layer::base_path::BasePath;
use crate::http::layer::cors;
use crate::http::layer::identify::{self, Unknown};
use crate::http::layer::no_route;
use crate::http::layer::request::{RequestInfo, Waited};
use crate::http::layer::request_log;
use crate::http::layer::request_record::{REQUEST_ID, RequestRecord, request_id};
use crate::http::layer::response_budget;
use crate::http::layer::unread_body;
use crate::http::state::AppState;
use crate::metrics::RequestLabels;
use crate::model::frame::write_line;
use crate::shares;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The outermost layer. Implemented by hand, because a layer made from a function would cost each
/// request several boxes and copies of the inner service.
#[derive(Clone)]
pub struct RequestLayer(pub AppState);

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> RequestService<S> {
        RequestService {
            state: self.0.clone(),
            inner,
        }
    }
}

/// The service of a [`RequestLayer`].
#[derive(Clone)]
pub struct RequestService<S> {
    state: AppState,
    inner: S,
}

impl<S> Service<Request> for RequestService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let admit = AssertUnwindSafe(|| admission::admit(&self.state, &mut request));
        let admitted = std::panic::catch_unwind(admit)
            .unwrap_or_else(|panic| Err(Unknown::Answer(Box::new(panicked(&*panic)))));
        // After the admission check, which may have removed parts of the URI.
        let mut sent = RequestRecord::new(
            &mut request,
            admitted.as_ref().ok().cloned(),
            &self.state.settings.base_path,
        );
        if admitted.is_err() {
            sent.refused_from = admission::listed_origin(&self.state, request.headers());
        }
        let state = self.state.clone();
        let span = state.tracer.as_ref().and_then(|tracer| {
            // A request with several of them has none.
            let parent = single(request.headers(), &TRACEPARENT).ok().flatten();
            tracer.begin(parent.and_then(|value| value.to_str().ok()))
        });
        let account = admitted
            .as_ref()
            .ok()
            .and_then(|caller| caller.usage.account.clone());
        let answer = match admitted {
            // The router answers if there is no such route, or it does not have the method.
            Ok(_) if unread_body::is_possible(&request) && sent.is_operation(&state.metrics) => {
                let mut inner = self.inner.clone();
                return Box::pin(async move {
                    let response = match unread_body::refuse(&state, request).await {
                        Ok(request) => shares::scope(account, caught(inner.call(request))).await?,
                        Err(error) => error.into_response(),
                    };
                    Ok(finish(&state, &sent, response))
                });
            }
            Ok(_) => Ok(self.inner.call(request)),
            Err(Unknown::Answer(refused)) => Err(refused),
            Err(Unknown::AskForSecret) => {
                let mut again = self.clone();
                return Box::pin(async move {
                    let told = state.share_secret().await;
                    request.extensions_mut().insert(identify::SecretAsked(told));
                    again.call(request).await
                });
            }
            Err(Unknown::Fetch(issuer)) => {
                // Admission starts over. It requests the same keys again only after a while.
                let mut again = self.clone();
                return Box::pin(async move {
                    if issuer.fetch().await {
                        state.hub.wake_all();
                    }
                    again.call(request).await
                });
            }
        };
        Box::pin(async move {
            let response = match (answer, &span) {
                (Ok(answer), None) => shares::scope(account, caught(answer)).await?,
                // Boxed, so that requests without traces are not larger.
                (Ok(answer), Some(span)) => {
                    let answer = shares::scope(account, caught(answer));
                    Box::pin(span.scope(answer)).await?
                }
                (Err(refused), _) => *refused,
            };
            let response = finish(&state, &sent, response);
            if let Some(span) = span {
                span.end(
                    method_label(&sent.method),
                    sent.route(),
                    response.status().as_u16(),
                );
            }
            Ok(response)
        })
    }
}

/// Returns the response of a handler, even if the handler panics.
async fn caught(
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Result<Response, Infallible> {
    // The panicked handler shares only state behind locks, which a panic releases.
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => Ok(panicked(&*panic)),
    }
}

/// Writes the problem body, the common response headers and the log line.
pub(in crate::http) fn finish(
    state: &AppState,
    sent: &RequestRecord,
    response: Response,
) -> Response {
    let RequestRecord {
        info,
        method,
        refused_from,
        left,
        ..
    } = sent;
    let mut response = response_budget::account(state, method, info, response);
    if let Some(left) = left {
        left.clone().write_headers(response.headers_mut());
    }
    if let Some(origin) = refused_from {
        cors::let_read(response.headers_mut(), origin.clone());
    }
    let error = response
        .extensions_mut()
        .remove::<ApiError>()
        .or_else(|| foreign(&response, info.path()));
    if let Some(error) = &error {
        write_problem(&mut response, error, info);
    }
    // Stream contents change, so responses must not be stored unless they say otherwise.
    if response.status().is_success() && info.path().starts_with("/v1/") {
        let no_store = HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .entry(CACHE_CONTROL)
            .or_insert(no_store);
    }
    // Browsers must show stored data as the declared type and never guess that it is a page.
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
        .headers_mut()
        .insert(REQUEST_ID, info.id_header().clone());
    info.base().apply(response.headers_mut());
    let status = response.status().as_u16();
    let (method, route) = (method_label(method), sent.route());
    let took = sent.began.elapsed();
    if response.extensions().get::<Waited>().is_none() {
        state.metrics.request_times.observe(method, route, took);
    }
    let route = Arc::from(route);
    let labels = RequestLabels {
        method,
        route,
        status,
    };
    state.metrics.requests.get_or_create(&labels).inc();

    request_log::write(state, sent, &response, error.as_ref(), took);
    response
}

/// Converts an error response of axum or another crate into a problem.
fn foreign(response: &Response, path: &str) -> Option<ApiError> {
    Some(match response.status().as_u16() {
        404 => no_route::problem(path),
        400..500 => ApiError::invalid("the request could not be parsed"),
        500.. => ApiError::new(ErrorCode::Internal, "internal error"),
        _ => return None,
    })
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn write_problem(response: &mut Response, error: &ApiError, info: &RequestInfo) {
    let problem = info.problem(error);
    let mut body = Vec::new();
    write_line(&mut body, &problem);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.status_mut() = error.code.status();
    if error.code == ErrorCode::Unauthenticated {
        identify::challenge(error, response.headers_mut());
    }
    *response.body_mut() = Body::from(body);
}

/// Builds the response to a request whose handler panicked. The panic message goes only to the log.
pub(in crate::http) fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = text.unwrap_or("no message"),
        "a request handler panicked"
    );
    ApiError::new(
        ErrorCode::Internal,
        "internal error: the gateway's log has details under this request id",
    )
    .into_response()
}

/// Builds the response to a request that panicked outside of [`RequestService`]: a complete problem with
/// its own request id.
pub(crate) fn answer_panic(method: &Method, uri: &Uri, panic: &(dyn Any + Send)) -> Response {
    let mut response = panicked(panic);
    let info = RequestInfo::new(
        uri,
        request_id(&HeaderMap::new()),
        None,
        BasePath::default(),
    );
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        write_problem(&mut response, &error, &info);
    }
    response
        .headers_mut()
        .insert(REQUEST_ID, info.id_header().clone());
    let (method, path, id) = (
        method.as_str(),
        shortened(info.path(), request_log::MAX_TEXT),
        info.id(),
    );
    tracing::error!(
        method,
        path = &*path,
        status = 500,
        request_id = id,
        "request failed"
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_outside_of_the_layer_is_answered_with_a_whole_problem() {
        let uri = Uri::from_static("/v1/streams");
        let mut response = answer_panic(&Method::GET, &uri, &"secret");
        assert_eq!(response.status().as_u16(), 500);
        let body = std::mem::take(response.body_mut());
        let body = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(body));
        let problem = String::from_utf8(body.unwrap().unwrap().to_bytes().to_vec()).unwrap();
        let id = response.headers()[REQUEST_ID].to_str().unwrap();
        assert!(problem.contains("\"code\":\"internal\""), "{problem}");
        assert!(
            problem.contains(&format!("\"request_id\":\"{id}\"")),
            "{problem}"
        );
        assert!(!problem.contains("secret"), "{problem}");
    }
}
