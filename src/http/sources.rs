//! `POST /v1/sources/{name}`: appends a delivery of a webhook source, which its signature
//! authenticates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{DeliveryError, SignedDelivery, WebhookSource};
use crate::http::entries::append::body::whole;
use crate::http::entries::append::errors::{alone, publish_error};
use crate::http::entries::append::plan::traceparent_to_store;
use crate::http::error::problems::SourceProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::body::Body;
use crate::http::extract::single_header::single;
use crate::http::extract::{NoParams, Query, path_segment};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::OctetStream;
use crate::http::state::{AppState, StateFields};
use crate::model::entry::Fields;
use crate::model::id::NewId;
use crate::redis::{AppendRejection, IdempotencyKey, NewEntry};
use crate::service::publish::{PublishError, PublishOptions, Published, Publisher};

/// The field for the body of a delivery.
const BODY_FIELD: &str = "data";
/// Header of a request that asks whether deliveries may be sent.
const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// The response to a delivery. A delivery that only checks the URL gets its `challenge` alone.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct DeliveryReceipt {
    /// The id of the entry. Absent if an earlier delivery with the same id had other content.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, example = "1795232709004-0")]
    id: Option<String>,
    /// Whether an earlier delivery had the same id. Nothing was appended then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    replayed: Option<bool>,
    /// The challenge of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    challenge: Option<String>,
}

/// The source in the path of a request. An unknown one gets the same response as a wrong signature,
/// so that names cannot be found by trying them.
pub struct PathSource(Arc<WebhookSource>);

impl FromRequestParts<AppState> for PathSource {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let name = path_segment(parts, "name").await?;
        let source = state.auth.source(&name);
        let source = source.ok_or_else(|| refused(state, DeliveryError::Signature));
        source.map(Self)
    }
}

/// Receive a webhook
///
/// Appends the body of a signed request to the stream of the source. A source is a record in the
/// auth file of the gateway, with the scheme and the secrets of the sender. The signature is the only
/// credential.
///
/// The body is stored unchanged in `data`, its media type in `content-type`, and the headers that
/// the record names in fields of their own. Deliveries with the same id append once.
#[utoipa::path(
    post,
    path = paths::SOURCE,
    tag = "sources",
    params(("name" = String, Path, description = "The source")),
    request_body(content((Object = "application/json"), (OctetStream = "application/octet-stream")), description = "The delivery"),
    responses(
        (status = 200, description = "Appended, now or by an earlier delivery with the same id; or the challenge of a request that only checks the URL", body = DeliveryReceipt),
        SourceProblems,
    ),
)]
pub async fn receive_delivery(
    PathSource(source): PathSource,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    request: Request,
) -> Result<Json<DeliveryReceipt>, ApiError> {
    refuse_encoding(request.headers())?;
    let body = Body::read(request, &state, usize::MAX).await?;
    let header = |name: &str| {
        let name = HeaderName::try_from(name).ok()?;
        single(&body.headers, &name).ok().flatten()?.to_str().ok()
    };
    let delivery = source.verify(&header, &body.bytes, unix_seconds());
    let delivery = delivery.map_err(|error| refused(&state, error))?;
    if delivery.challenge.is_some() {
        state.metrics.count_webhook("handshake");
        let challenge = delivery.challenge;
        return Ok(Json(DeliveryReceipt {
            challenge,
            ..DeliveryReceipt::default()
        }));
    }
    let fields = fields(&source, &body);
    let options = options(&state, &source, &delivery, &body.headers);
    let (id, replayed) = match append(&state, &source, options, fields).await {
        Ok(done) => (Some(done.last().to_string()), done.replayed),
        // The sender says that the id stands for one event, and repeats it with another header.
        Err(PublishError::Rejected(AppendRejection::KeyReused)) if delivery.id_is_of_event => {
            (None, true)
        }
        Err(error) => return Err(publish_error(error, alone)),
    };
    let outcome = if replayed { "replayed" } else { "stored" };
    state.metrics.count_webhook(outcome);
    Ok(Json(DeliveryReceipt {
        id,
        replayed: Some(replayed),
        challenge: None,
    }))
}

/// Answers the question of a `CloudEvents` sender whether it may send deliveries.
pub async fn allow_sender(
    _known: PathSource,
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut response = ().into_response();
    let allowed = response.headers_mut();
    allowed.insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    if let Some(origin) = single(&headers, &REQUEST_ORIGIN)? {
        allowed.insert(ALLOWED_ORIGIN, origin.clone());
        allowed.insert(ALLOWED_RATE, HeaderValue::from_static("*"));
        state.metrics.count_webhook("handshake");
    }
    Ok(response)
}

/// Refuses a compressed body: the signature is of the bytes that were sent.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            let detail =
                "a delivery must not be compressed, because its signature is of the body as sent";
            let error = ApiError::new(ErrorCode::UnsupportedMediaType, detail);
            Err(error.at("Content-Encoding", "must be absent"))
        }
        _ => Ok(()),
    }
}

/// Returns a 401 for a request that is not to be stored, and counts it.
fn refused(state: &StateFields, error: DeliveryError) -> ApiError {
    let (outcome, detail) = match error {
        DeliveryError::Signature => (
            "signature",
            "no source with this name has a secret that made the signature of the request",
        ),
        DeliveryError::Stale => (
            "stale",
            "the time of the delivery is too far from the time of the gateway",
        ),
    };
    state.metrics.count_webhook(outcome);
    ApiError::new(ErrorCode::Unauthenticated, detail)
}

/// Returns the body, its media type and the headers that the source stores.
fn fields(source: &WebhookSource, body: &Body) -> Fields {
    let mut fields = whole(BODY_FIELD, body);
    for (name, value) in &body.headers {
        if name != CONTENT_TYPE && source.stores(name.as_str()) {
            fields.push((name.as_str().into(), value.as_bytes().to_vec()));
        }
    }
    fields
}

fn options(
    state: &StateFields,
    source: &WebhookSource,
    delivery: &SignedDelivery,
    headers: &HeaderMap,
) -> PublishOptions {
    // A name of a key has no slash, and that of an issuer is not empty, so no other caller shares
    // these keys.
    let principal = ["/", &source.name].concat();
    let key = |id: &String| IdempotencyKey::new(&principal, "", id);
    PublishOptions {
        if_match: None,
        if_new: false,
        key: delivery.id.as_ref().map(key),
        window: state
            .settings
            .idempotency_window
            .max(source.replay_window()),
        create: true,
        durability: None,
        trim: None,
        traceparent: traceparent_to_store(state, headers),
        manages: false,
    }
}

async fn append(
    state: &AppState,
    source: &WebhookSource,
    options: PublishOptions,
    fields: Fields,
) -> Result<Published, PublishError> {
    let (services, stream) = (state.services.clone(), source.stream.clone());
    let mut publisher = Publisher::new(services, stream, options).await?;
    let entry = NewEntry {
        id: NewId::Auto,
        fields,
        key: None,
    };
    publisher.append_all(vec![entry]).await
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since: Duration| since.as_secs())
}
