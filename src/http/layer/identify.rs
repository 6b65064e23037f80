//! Who a request comes from: finds the credential it shows, and what to answer where that is not
//! good.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse as _, Response};

use crate::auth::{Auth, Credential, Issuer, NO_TICKET, Principal, Refused, Unavailable};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream::{self, EVENT_STREAM};
use crate::http::paths;
use crate::live::Closing;

/// The cookie that holds a ticket.
pub const TICKET_COOKIE: &str = "streamgate_ticket";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What may be asked for by anybody, where others must say who they are: it shows nothing of any
/// stream.
const PUBLIC: [&str; 6] = [
    "/",
    "/livez",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/assets/style.css",
];

/// A request has come once before and was kept until the secret of tickets was asked for; whether it
/// was told.
#[derive(Clone, Copy)]
pub struct SecretAsked(pub bool);

/// The ticket of a request that comes a second time: the first took it out of the query.
#[derive(Clone)]
struct TakenTicket(String);

/// Stands in a problem about a credential that was shown.
const REASON: &str = "reason";

/// Why a request goes no further for now.
pub enum Unknown {
    /// This is its answer.
    Answer(Box<Response>),
    /// Keys are to be fetched, and then it is asked again.
    Fetch(Arc<Issuer>),
    /// The secret of tickets is to be asked for, and then it is asked again.
    AskForSecret,
}

impl From<ApiError> for Unknown {
    fn from(error: ApiError) -> Self {
        Self::Answer(Box::new(error.into_response()))
    }
}

/// Tells who the request comes from. A ticket in its query is taken out of it: no handler, log or
/// answer sees one.
///
/// # Errors
/// [`Unknown`].
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
                return Err(
                    unauthenticated("a ticket is for reading: it is taken with GET alone").into(),
                );
            }
            Some(ticket) => Credential::Ticket(ticket),
            None => {
                let detail = "say who you are: `Authorization: Bearer KEY-OR-TOKEN`, `X-API-Key: KEY`, \
                              or a ticket as `?ticket=`";
                return Err(unauthenticated(detail).into());
            }
        },
    };
    let wants_events = stream::is_wanted(headers, EVENT_STREAM);
    let refused = match auth.identify(shown) {
        Ok(principal) => return Ok(principal),
        Err(Refused::AskForSecret) => match request.extensions().get() {
            Some(SecretAsked(true)) => Refused::Wrong(NO_TICKET),
            Some(SecretAsked(false)) => Refused::Unavailable(Unavailable::Secret),
            None => Refused::AskForSecret,
        },
        Err(refused) => refused,
    };
    Err(match refused {
        Refused::Wrong(why) => unauthenticated(why)
            .with(REASON, "invalid-credential")
            .into(),
        again @ (Refused::Fetch(_) | Refused::AskForSecret) => {
            if let Some(ticket) = in_query {
                request.extensions_mut().insert(TakenTicket(ticket));
            }
            match again {
                Refused::Fetch(issuer) => Unknown::Fetch(issuer),
                _ => Unknown::AskForSecret,
            }
        }
        Refused::Unavailable(_) if wants_events => {
            Unknown::Answer(Box::new(stream::closed(Closing::AuthUnavailable)))
        }
        Refused::Unavailable(what) => {
            let detail = match what {
                Unavailable::Keys => {
                    "the keys that tokens are checked with could not be fetched yet"
                }
                Unavailable::Secret => "the secret that tickets are signed with is not known yet",
            };
            ApiError::new(ErrorCode::AuthUnavailable, detail).into()
        }
    })
}

fn unauthenticated(detail: &'static str) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

/// Says how to authenticate, as an answer 401 must, and whether what was shown is to blame.
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
    // What a browser asks before it asks: the guard has refused origins that are not listed.
    let is_preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key("access-control-request-method");
    is_public_path(path) || is_preflight
}

/// Whether anybody may ask for this path.
#[must_use]
pub fn is_public_path(path: &str) -> bool {
    PUBLIC.contains(&path) || path.starts_with("/docs/")
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
                    .map_err(|_| unauthenticated("the credential is no text"))?;
                Ok(Some(text.trim()))
            }
            (Some(_), Some(_)) => Err(unauthenticated("more than one credential is shown")),
        }
    };
    match (one(&AUTHORIZATION)?, one(&API_KEY)?) {
        (None, None) => Ok(None),
        (None, Some(key)) => Ok(Some(Credential::Key(key))),
        (Some(_), Some(_)) => Err(unauthenticated("more than one credential is shown")),
        (Some(text), None) => match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(Credential::Bearer(token.trim())))
            }
            _ => Err(unauthenticated(
                "`Authorization` is `Bearer`, with a key or a token",
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

/// Takes `ticket=` out of the query.
///
/// # Errors
/// 400 where there is no telling what is left of the URI then.
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
    // What was a path and a query is one without a part of the query.
    parts.path_and_query = rest.parse().ok();
    *uri = Uri::from_parts(parts).map_err(|_| ApiError::invalid("the path cannot be read"))?;
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
