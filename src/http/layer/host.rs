//! The host name of a request: `Host` of HTTP/1.1, `:authority` of HTTP/2, or the host of an
//! absolute target. Several may be present, but they must agree and must not be repeated, because a
//! proxy in front of the gateway may have checked a different one.

use axum::http::header::HOST;
use axum::http::{Request, uri::Authority};

use crate::http::error::ApiError;

/// Returns the host name and port that the request was sent to, if any.
///
/// # Errors
/// 400 if there is more than one or they differ.
pub fn of<B>(request: &Request<B>) -> Result<Option<&str>, ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let header = hosts.next().map(|host| host.to_str().unwrap_or_default());
    if hosts.next().is_some() {
        return Err(ApiError::invalid(
            "the request must have only one `Host` header",
        ));
    }
    let target = request.uri().authority().map(Authority::as_str);
    match (header, target) {
        (Some(header), Some(target)) if !header.eq_ignore_ascii_case(target) => Err(
            ApiError::invalid("`Host` must match the target of the request"),
        ),
        (header, target) => Ok(header.or(target)),
    }
}

/// Returns a 400 for a request without a host name.
pub fn missing() -> ApiError {
    ApiError::invalid("the request must have a `Host` header")
}
