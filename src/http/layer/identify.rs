//! Authentication of requests: finds the credential, and builds the response if it is missing or
//! invalid.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};

use crate::auth::{Auth, AuthError, Credential, Issuer, NO_TICKET, Principal, Unavailable};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream::{self, EVENT_STREAM};
use crate::http::paths;
use crate::http::system::console;
use crate::live::EndReason;

/// The cookie for a ticket.
pub const TICKET_COOKIE: &str = "streamgate_ticket";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Paths that never require a credential. They reveal nothing about any stream.
const PUBLIC: [&str; 6] = [
    "/",
    "/livez",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/console",
];

/// Marker of a request that was held while the gateway requested the ticket secret. The value is
/// whether the gateway now has the secret.
#[derive(Clone, Copy)]
pub struct SecretAsked(pub bool);

/// The ticket of a held request. The first pass has removed it from the query.
#[derive(Clone)]
struct TakenTicket(String);

/// The problem member for an invalid credential.
const REASON: &str = "reason";

/// The reason why a request is not admitted for now.
pub enum Unknown {
    /// The response to return.
    Answer(Box<Response>),
    /// Keys must be fetched before the request is checked again.
    Fetch(Arc<Issuer>),
    /// The ticket secret must be requested before the request is checked again.
    AskForSecret,
}

impl From<ApiError> for Unknown {
    fn from(error: ApiError) -> Self {
        Self::Answer(Box::new(error.into_response()))
    }
}

/// Identifies the caller of a request. Removes a ticket from the query, so that no handler, log or
/// response contains it.
///
/// # Errors
/// [`Unknown`] if the caller cannot be identified.
pub fn identify(auth: &Auth, request: &mut Request) -> Result<Arc<Principal>, Unknown> {
    let public = is_public(request);
    let taken = request
        .extensions_mut()
        .remove::<TakenTicket>()
        .map(|TakenTicket(ticket)| ticket);
    let in_query = take_ticket(request.uri_mut())?.or(taken);
    if !auth.is_on() {
        return Ok(auth.anyone().clone());
    }
    if public {
        return Ok(auth.nobody().clone());
    }
    let (headers, is_get) = (request.headers(), request.method() == Method::GET);
    let cookie = || in_cookie(headers).filter(|_| is_get && is_subscription(request));
    let shown = match header_credential(headers)? {
        Some(credential) => credential,
        None => match in_query.as_deref().or_else(cookie) {
            Some(_) if !is_get => {
                return Err(unauthenticated("a ticket is valid only for GET requests").into());
            }
            Some(ticket) => Credential::Ticket(ticket),
            None => {
                let detail = "authentication is required: send `Authorization: Bearer KEY-OR-TOKEN`, `X-API-Key: KEY`, \
                              or a ticket as `?ticket=`";
                return Err(unauthenticated(detail).into());
            }
        },
    };
    let wants_events = stream::is_wanted(headers, EVENT_STREAM);
    let refused = match auth.identify(shown) {
        Ok(principal) => return Ok(principal),
        Err(AuthError::AskForSecret) => match request.extensions().get() {
            Some(SecretAsked(true)) => AuthError::Wrong(NO_TICKET),
            Some(SecretAsked(false)) => AuthError::Unavailable(Unavailable::Secret),
            None => AuthError::AskForSecret,
        },
        Err(refused) => refused,
    };
    Err(match refused {
        AuthError::Wrong(why) => unauthenticated(why)
            .with(REASON, "invalid-credential")
            .into(),
        again @ (AuthError::Fetch(_) | AuthError::AskForSecret) => {
            if let Some(ticket) = in_query {
                request.extensions_mut().insert(TakenTicket(ticket));
            }
            match again {
                AuthError::Fetch(issuer) => Unknown::Fetch(issuer),
                _ => Unknown::AskForSecret,
            }
        }
        AuthError::Unavailable(_) if wants_events => {
            Unknown::Answer(Box::new(stream::closed(EndReason::AuthUnavailable)))
        }
        AuthError::Unavailable(what) => {
            let detail = match what {
                Unavailable::Keys => {
                    "the keys that verify tokens could not be fetched yet: retry later"
                }
                Unavailable::Secret => {
                    "the secret that signs tickets is not available yet: retry later"
                }
            };
            ApiError::new(ErrorCode::AuthUnavailable, detail).into()
        }
    })
}

fn unauthenticated(detail: &'static str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

/// Sets `WWW-Authenticate`, which every 401 response needs. The header says whether the credential
/// was invalid.
pub fn challenge(error: &ApiError, headers: &mut HeaderMap) {
    let shown = error.extra.contains_key(REASON);
    headers.insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static(match shown {
            true => "Bearer realm=\"streamgate\", error=\"invalid_token\"",
            false => "Bearer realm=\"streamgate\"",
        }),
    );
}

fn is_public(request: &Request) -> bool {
    let path = request.uri().path();
    // Preflight requests have no credentials. The admission check has refused unlisted origins.
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key("access-control-request-method");
    is_public_path(path) || is_preflight
}

/// Whether a path never requires authentication.
#[must_use]
pub fn is_public_path(path: &str) -> bool {
    PUBLIC.contains(&path)
        // A signature authenticates a delivery.
        || path.starts_with(paths::SOURCES)
        || path.starts_with("/docs/")
        || (path.starts_with(console::PATH) && path != console::ACCESS)
}

fn is_subscription(request: &Request) -> bool {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    matches!(route, Some(paths::EVENTS | paths::MANY_EVENTS))
}

fn header_credential(headers: &HeaderMap) -> Result<Option<Credential<'_>>, ApiError> {
    let one = |name: &HeaderName| {
        let mut all = headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let text = value
                    .to_str()
                    .map_err(|_| unauthenticated("the credential must be text"))?;
                Ok(Some(text.trim()))
            }
            (Some(_), Some(_)) => Err(unauthenticated("only one credential is allowed")),
        }
    };
    credential(one(&AUTHORIZATION)?, one(&API_KEY)?)
}

/// Parses the trimmed values of `Authorization` and `X-API-Key`.
///
/// # Errors
/// 401 for both, or for another scheme than `Bearer`.
pub(in crate::http) fn credential<'a>(
    authorization: Option<&'a str>,
    api_key: Option<&'a str>,
) -> Result<Option<Credential<'a>>, ApiError> {
    match (authorization, api_key) {
        (None, None) => Ok(None),
        (None, Some(key)) => Ok(Some(Credential::Key(key))),
        (Some(_), Some(_)) => Err(unauthenticated("only one credential is allowed")),
        (Some(text), None) => match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(Credential::Bearer(token.trim())))
            }
            _ => Err(unauthenticated(
                "`Authorization` must be `Bearer` followed by a key or a token",
            )),
        },
    }
}

fn in_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut all = cookies.flat_map(|value| value.split(';'));
    all.find_map(|cookie| cookie.trim().strip_prefix(TICKET_COOKIE)?.strip_prefix('='))
}

/// Removes `ticket=` from the query and returns the ticket.
///
/// # Errors
/// 400 if the remaining URI is invalid.
fn take_ticket(uri: &mut Uri) -> Result<Option<String>, ApiError> {
    let Some(query) = uri.query().filter(|query| query.contains("ticket=")) else {
        return Ok(None);
    };
    let (tickets, others): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|pair| pair.starts_with("ticket="));
    let Some(ticket) = tickets
        .first()
        .and_then(|pair| pair.strip_prefix("ticket="))
    else {
        return Ok(None);
    };
    let (ticket, path) = (ticket.to_owned(), uri.path());
    let rest = if others.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", others.join("&"))
    };
    let mut parts = std::mem::take(uri).into_parts();
    // A valid path and query stays valid without a part of the query.
    parts.path_and_query = rest.parse().ok();
    *uri = Uri::from_parts(parts).map_err(|_| ApiError::invalid("the path is invalid"))?;
    Ok(Some(ticket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_leaves_the_query_and_nothing_else_does() {
        for (from, to, ticket) in [
            ("/a?ticket=x", "/a", Some("x")),
            ("/a?b=1&ticket=x&c=2", "/a?b=1&c=2", Some("x")),
            ("http://h/a?ticket=x&ticket=y", "http://h/a", Some("x")),
            ("/a?b=ticket=x", "/a?b=ticket=x", None),
            ("/a?myticket=x", "/a?myticket=x", None),
            ("/a", "/a", None),
        ] {
            let mut uri: Uri = from.parse().unwrap();
            assert_eq!(
                (
                    take_ticket(&mut uri).unwrap().as_deref(),
                    uri.to_string().as_str()
                ),
                (ticket, to)
            );
        }
    }
}
