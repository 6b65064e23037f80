//! `POST /v1/tickets`: a right to follow some streams that fits into a URL.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::ticket::{Ticket, fits};
use crate::auth::{Pattern, Right};
use crate::http::error::problems::TicketProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::Caller;
use crate::http::extract::params::Wait;
use crate::http::extract::{Call, NoParams, Query};
use crate::http::layer::identify::TICKET_COOKIE;
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::time::show_rfc3339;

/// How long a ticket lasts unless told.
const TTL: Duration = Duration::from_secs(3600);
/// How long one lasts at least, and at most.
const TTLS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// What the ticket is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketCall {
    /// The streams that may be read with it, by name or as `PREFIX*`.
    #[serde(default)]
    #[schema(required = true, min_items = 1, example = json!(["orders"]))]
    streams: Vec<String>,
    /// How long it is good, 1s to 7d: 1h unless given, and never longer than the credential it is
    /// made with.
    #[schema(value_type = Option<String>, example = "1h")]
    ttl: Option<Wait>,
    /// Set it as a cookie, which no script of the page can read, instead of answering it. Cookies
    /// are taken for subscriptions alone.
    #[serde(default)]
    #[schema(required = false)]
    cookie: bool,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub struct TicketOut {
    /// To be given as `?ticket=` with GET; null where it was set as a cookie.
    #[schema(required)]
    ticket: Option<String>,
    /// When it ends.
    #[schema(example = "2026-09-20T09:30:00.000Z")]
    expires: String,
}

type SetCookie = Option<[(HeaderName, HeaderValue); 1]>;

/// Create a ticket
///
/// Creates a ticket for a browser, whose `EventSource` cannot send headers. The server of the page
/// creates the ticket and hands it to the page. A ticket lets its bearer read the named streams
/// until the ticket expires or the credential that created it is revoked.
#[utoipa::path(
    post,
    path = paths::TICKETS,
    tag = "tickets",
    request_body(content((TicketCall = "application/json"), (TicketCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "A ticket", body = TicketOut), TicketProblems),
)]
pub async fn make_ticket(
    Caller(principal): Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(call): Call<TicketCall>,
) -> Result<(SetCookie, Json<TicketOut>), ApiError> {
    let Some(maker) = state.auth.maker(&principal) else {
        let detail = match state.auth.is_on() {
            true => "a ticket makes no tickets",
            false => "nobody is asked who they are here, so there is nothing a ticket could show",
        };
        return Err(ApiError::new(ErrorCode::Forbidden, detail));
    };
    if call.streams.is_empty() {
        return Err(ApiError::invalid("a ticket is for `streams`").at("/streams", "is missing"));
    }
    if !fits(&call.streams) {
        let detail = "so many names do not fit into a ticket";
        return Err(ApiError::invalid(detail).at("/streams", detail));
    }
    for (index, name) in call.streams.iter().enumerate() {
        let at = format!("/streams/{index}");
        let exact = name.strip_suffix('*').is_none();
        if exact {
            principal
                .stream(name)
                .map_err(|error| ApiError::from(error).at(&at, error.to_string()))?;
        }
        if !principal.covers(Right::Subscribe, &Pattern::new(name)) {
            let detail = format!("the credential gives no right to subscribe to `{name}`");
            let error = ApiError::new(ErrorCode::Forbidden, detail).at(at, "this stream");
            return Err(error
                .with("right", "subscribe")
                .with("stream", name.as_str()));
        }
    }
    let Wait(ttl) = call.ttl.unwrap_or(Wait(TTL));
    if !TTLS.contains(&ttl) {
        return Err(ApiError::invalid("`ttl` is 1s to 7d").at("/ttl", "1s to 7d"));
    }
    let ttl = principal.validity.left().map_or(ttl, |left| left.min(ttl));
    let until = (SystemTime::now() + ttl)
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let ticket = Ticket {
        maker,
        streams: call.streams,
        until: until.as_secs(),
    };
    // What is signed with a secret that others have given up is refused there for good.
    state.share_secret().await;
    let text = state.auth.ticket(&ticket).ok_or_else(|| {
        let detail = "the secret that tickets are signed with is not known yet";
        ApiError::new(ErrorCode::AuthUnavailable, detail)
    })?;
    let expires = show_rfc3339(until.as_secs() * 1000);
    if !call.cookie {
        return Ok((
            None,
            Json(TicketOut {
                ticket: Some(text),
                expires,
            }),
        ));
    }
    let cookie = format!(
        "{TICKET_COOKIE}={text}; Path=/v1; Max-Age={}; HttpOnly; Secure; SameSite=Strict",
        ttl.as_secs()
    );
    // A ticket is letters, digits and a few signs.
    let value = HeaderValue::try_from(cookie)
        .map_err(|_| ApiError::new(ErrorCode::Internal, "the ticket does not fit into a cookie"))?;
    Ok((
        Some([(SET_COOKIE, value)]),
        Json(TicketOut {
            ticket: None,
            expires,
        }),
    ))
}
