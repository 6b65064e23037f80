//! `POST /v1/tickets`: creates a ticket, a right to read some streams that fits into a URL.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::ticket::{Ticket, fits};
use crate::auth::{Pattern, Right};
use crate::http::bounds::TTLS;
use crate::http::error::problems::TicketProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::Caller;
use crate::http::extract::params::DurationParam;
use crate::http::extract::{JsonOrForm, NoParams, Query};
use crate::http::layer::identify::TICKET_COOKIE;
use crate::http::openapi::text::{StreamOrPrefixText, TicketLifetimeText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::time::show_rfc3339;

/// Default lifetime of a ticket.
const TTL: Duration = Duration::from_secs(3600);

/// Streams and lifetime of a new ticket.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketCall {
    /// Streams that the ticket may read: names or `PREFIX*`.
    #[serde(default)]
    #[schema(required = true, min_items = 1, example = json!(["orders"]), value_type = Vec<StreamOrPrefixText>, inline)]
    streams: Vec<String>,
    /// Lifetime of the ticket, 1s to 7d; default 1h. The ticket never outlives the credential that
    /// creates it.
    #[schema(value_type = Option<TicketLifetimeText>, inline)]
    ttl: Option<DurationParam>,
    /// Sets the ticket as a cookie that scripts cannot read, instead of returning it. The gateway
    /// accepts cookies only for subscriptions.
    #[serde(default)]
    #[schema(required = false)]
    cookie: bool,
}

/// A created ticket.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub struct TicketOut {
    /// Ticket to send as `?ticket=` with GET requests; null if it was set as a cookie.
    #[schema(required)]
    ticket: Option<String>,
    /// Time at which the ticket expires.
    #[schema(example = "2026-09-20T09:30:00.000Z")]
    expires: String,
}

type SetCookie = Option<[(HeaderName, HeaderValue); 1]>;

/// Create a ticket
///
/// Creates a ticket for a browser, whose `EventSource` cannot send headers. The server of a page
/// creates the ticket and passes it to the page. A ticket lets its bearer read the named streams
/// until it expires or the credential that created it is revoked.
#[utoipa::path(
    post,
    path = paths::TICKETS,
    tag = "tickets",
    request_body(content((TicketCall = "application/json"), (TicketCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The ticket", body = TicketOut), TicketProblems),
)]
pub async fn make_ticket(
    Caller(principal): Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<TicketCall>,
) -> Result<(SetCookie, Json<TicketOut>), ApiError> {
    let Some(maker) = state.auth.maker(&principal) else {
        let detail = match state.auth.is_on() {
            true => "a ticket cannot create tickets; use an API key or a token",
            false => "authentication is off, so tickets are not available; call without a ticket",
        };
        return Err(ApiError::new(ErrorCode::Forbidden, detail));
    };
    if call.streams.is_empty() {
        return Err(ApiError::invalid("`streams` must not be empty").at("/streams", "is missing"));
    }
    if !fits(&call.streams) {
        let detail = "the names are too long for one ticket";
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
            let detail = format!("the credential lacks the right to subscribe to `{name}`");
            let error = ApiError::new(ErrorCode::Forbidden, detail).at(at, "this stream");
            return Err(error
                .with("right", "subscribe")
                .with("stream", name.as_str()));
        }
    }
    let DurationParam(ttl) = call.ttl.unwrap_or(DurationParam(TTL));
    if !TTLS.contains(&ttl) {
        return Err(ApiError::invalid("`ttl` must be 1s to 7d").at("/ttl", "must be 1s to 7d"));
    }
    let ttl = principal
        .validity
        .remaining()
        .map_or(ttl, |left| left.min(ttl));
    let until = (SystemTime::now() + ttl)
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let ticket = Ticket {
        maker,
        streams: call.streams,
        until: until.as_secs(),
    };
    // Gateways permanently refuse tickets signed with a secret that they have abandoned.
    state.share_secret().await;
    let text = state.auth.ticket(&ticket).ok_or_else(|| {
        let detail = "the secret for signing tickets is not available yet; try again";
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
    // A ticket consists of letters, digits and a few signs.
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
