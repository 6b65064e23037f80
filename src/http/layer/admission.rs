//! Who may ask at all: refuses what a web page elsewhere could make a browser send, connections
//! beyond the bound, and those who do not say who they are.

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

/// Refuses what a web page elsewhere could make a browser send, before the body is read: a foreign
/// `Origin`, and a foreign `Host` (a name that was made to point here). Probes of liveness and
/// readiness show nothing and may come under any name. Answers who is let through.
///
/// # Errors
/// [`Unknown`], with the answer to give instead.
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

fn check(state: &AppState, request: &Request) -> Result<(), ApiError> {
    // A page of elsewhere that got a name to point here has no credential to show.
    let is_ours = state.auth.is_on() && state.settings.hosts.is_empty();
    let host = match host::of(request)? {
        Some(host) => host,
        // HTTP/1.0 does not demand one.
        None if is_ours && request.version() == Version::HTTP_10 => "",
        None => return Err(host::missing()),
    };
    let (headers, name) = (request.headers(), host_name(host));
    let is_listed = || {
        state
            .settings
            .hosts
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(name))
    };
    if !is_ours && !state.settings.any_host && !is_loopback(name) && !is_listed() {
        let name = name.to_ascii_lowercase();
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "the gateway is not known as {name:?}: start it with --host for each name it is called by"
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
            "pages of {origin:?} may not call: start the gateway with --allow-origin to let them"
        ),
    ))
}

/// The origin of the page that asks, if it is listed.
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

/// `Host` without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) if port.is_empty() || port.starts_with(':') => v6,
        // No name at all.
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
