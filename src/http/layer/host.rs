//! Under which name a request came: `Host` of HTTP/1.1, `:authority` of HTTP/2, the target where
//! it names one. They may all be there, but not say different things, and not twice: what stands
//! in front of us may have looked at the other.

use axum::http::header::HOST;
use axum::http::{Request, uri::Authority};

use crate::http::error::ApiError;

/// The name and port the request was sent to, if it has one.
///
/// # Errors
/// 400 when there is more than one.
pub fn of<B>(request: &Request<B>) -> Result<Option<&str>, ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let header = hosts.next().map(|host| host.to_str().unwrap_or_default());
    if hosts.next().is_some() {
        return Err(ApiError::invalid("a request names one `Host`"));
    }
    let target = request.uri().authority().map(Authority::as_str);
    match (header, target) {
        (Some(header), Some(target)) if !header.eq_ignore_ascii_case(target) => Err(
            ApiError::invalid("`Host` is not what the request is sent to"),
        ),
        (header, target) => Ok(header.or(target)),
    }
}

/// 400 for a request without a name.
pub fn missing() -> ApiError {
    ApiError::invalid("the request has no `Host`: name the gateway in one")
}
