//! Admission of requests: refuses cross-site browser requests, connections over the limit and
//! unauthenticated requests.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderValue, Version};

use crate::auth::Principal;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::single_header::single;
use crate::http::layer::identify::{Unknown, identify};
use crate::http::layer::{cors, host, malformed, rejection};
use crate::http::state::AppState;

/// Admits or refuses a request before its body is read, and returns the caller. Refuses requests
/// that a foreign web page could make a browser send: with a foreign `Origin`, or with a foreign
/// `Host` (a name that was made to point to the gateway). Liveness and readiness probes reveal
/// nothing and accept any name.
///
/// # Errors
/// [`Unknown`] with the response to return instead.
pub fn admit(state: &AppState, request: &mut Request) -> Result<Arc<Principal>, Unknown> {
    if let Some(answer) = rejection::answer(request) {
        return Err(Unknown::Answer(Box::new(answer)));
    }
    malformed::check(request)?;
    if !state.settings.origins.is_empty() {
        cors::narrow(request);
    }
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    if !is_probe {
        check(state, request)?;
    }
    let principal = identify(&state.auth, request)?;
    rejection::count(state, &principal, request).map_err(Unknown::Answer)?;
    Ok(principal)
}

/// Returns whether `Host` needs no check: a foreign page whose host name points to the gateway has
/// no credential.
fn is_any_host_ours(state: &AppState) -> bool {
    state.auth.is_on() && state.settings.hosts.is_empty()
}

/// Returns whether requests may be sent to this host, given with or without its port.
#[must_use]
pub fn allows_host(state: &AppState, host: &str) -> bool {
    let name = host_name(host);
    let is_listed = || {
        let mut hosts = state.settings.hosts.iter();
        hosts.any(|listed| listed.eq_ignore_ascii_case(name))
    };
    is_any_host_ours(state) || state.settings.any_host || is_loopback(name) || is_listed()
}

fn check(state: &AppState, request: &Request) -> Result<(), ApiError> {
    let host = match host::of(request)? {
        Some(host) => host,
        // HTTP/1.0 does not require a `Host`.
        None if is_any_host_ours(state) && request.version() == Version::HTTP_10 => "",
        None => return Err(host::missing()),
    };
    let headers = request.headers();
    if !allows_host(state, host) {
        let name = host_name(host).to_ascii_lowercase();
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "host {name:?} is not allowed: start the gateway with --host for each of its names"
            ),
        ));
    }
    let Some(origin) = single(headers, &ORIGIN)? else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let own = origin
        .split_once("://")
        .is_some_and(|(_, of_page)| of_page.eq_ignore_ascii_case(host));
    if own || state.settings.origins.iter().any(|listed| listed == origin) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::OriginNotAllowed,
        format!(
            "origin {origin:?} is not allowed: start the gateway with --allow-origin to allow it"
        ),
    ))
}

/// Returns the origin of the requesting page if it is listed.
#[must_use]
pub fn listed_origin(state: &AppState, headers: &HeaderMap) -> Option<HeaderValue> {
    let listed = |origin: &&HeaderValue| {
        state
            .settings
            .origins
            .iter()
            .any(|listed| listed.as_bytes() == origin.as_bytes())
    };
    headers.get(ORIGIN).filter(listed).cloned()
}

/// Returns `Host` without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) if port.is_empty() || port.starts_with(':') => v6,
        // The text is not a host name.
        Some(_) => host,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_port() {
        for (host, name) in [
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1].evil", "[::1].evil"),
        ] {
            assert_eq!(host_name(host), name);
        }
    }

    #[test]
    fn only_loopback_names_are_loopback() {
        for name in [
            "localhost",
            "LocalHost",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "",
            "localhost.evil",
            "evil",
            "10.0.0.1",
            "0.0.0.0",
            "127.0.0.1.evil",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
