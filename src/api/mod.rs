//! The only room that knows HTTP: routes in one list, what is common to all of them in
//! `envelope`, `guard` and `error`, one file for each kind of resource.

mod access;
mod ack;
mod append;
mod append_answer;
mod append_body;
mod append_lines;
mod append_plan;
mod append_run;
mod capabilities;
mod claims;
mod conditions;
mod consumers;
mod dead_letters;
mod deletion;
mod entry;
mod envelope;
mod error;
mod event_stream;
mod events;
mod events_many;
mod extract;
mod follow;
mod gap;
mod groups;
mod guard;
mod items;
mod limit;
mod many;
mod pairs;
mod params;
mod paths;
mod pending;
mod policy;
mod problems;
mod push;
mod range;
mod range_lines;
mod range_plan;
mod request;
mod retention;
mod scheduled;
mod schema;
mod session;
mod settle;
mod stream_full;
mod stream_patch;
mod streams;
mod system;
mod work;
mod work_many;

use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, LINK, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use envelope::EnvelopeLayer;
pub use error::{ApiError, ErrorCode, FieldError, Problem, SideEffects};
pub use pairs::nearest;
pub use request::OverConnectionLimit;
pub(crate) use session::{HandOver, Session};
pub use system::quick_start;

use crate::state::AppState;

/// Every documented route, with the document they make.
pub fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(streams::list_streams))
        .routes(routes!(
            streams::read_stream,
            streams::create_stream,
            stream_patch::patch_stream,
            streams::delete_stream
        ))
        .routes(routes!(range::read_entries, append::append_entries, deletion::delete_entries))
        .routes(routes!(entry::read_entry, deletion::delete_entry))
        .routes(routes!(deletion::trim_stream))
        .routes(routes!(scheduled::list_scheduled))
        .routes(routes!(scheduled::read_scheduled, scheduled::cancel_scheduled))
        .routes(routes!(many::read_many))
        .routes(routes!(events::follow_events))
        .routes(routes!(events_many::follow_many))
        .routes(routes!(groups::list_groups))
        .routes(routes!(
            groups::create_group,
            groups::read_group,
            groups::move_group,
            groups::delete_group
        ))
        .routes(routes!(work::read_as_consumer))
        .routes(routes!(work_many::read_many_as_consumer))
        .routes(routes!(ack::ack_entries))
        .routes(routes!(ack::ack_entries_of_many))
        .routes(routes!(settle::nack_entries))
        .routes(routes!(settle::nack_entries_of_many))
        .routes(routes!(settle::reject_entries))
        .routes(routes!(settle::reject_entries_of_many))
        .routes(routes!(settle::extend_entries))
        .routes(routes!(settle::extend_entries_of_many))
        .routes(routes!(dead_letters::list_dead_letters, dead_letters::purge_dead_letters))
        .routes(routes!(dead_letters::read_dead_letter, dead_letters::delete_dead_letter))
        .routes(routes!(dead_letters::redrive_dead_letters))
        .routes(routes!(push::push_entries))
        .routes(routes!(pending::list_pending))
        .routes(routes!(claims::claim_entries))
        .routes(routes!(claims::autoclaim_entries))
        .routes(routes!(consumers::list_consumers))
        .routes(routes!(
            consumers::read_consumer,
            consumers::create_consumer,
            consumers::delete_consumer
        ))
        .routes(routes!(capabilities::read_capabilities))
        .routes(routes!(system::index))
        .routes(routes!(system::live))
        .routes(routes!(system::ready))
        .routes(routes!(system::metrics))
        .routes(routes!(system::openapi))
}

/// The whole service.
pub fn router(state: AppState) -> axum::Router {
    let (documented, _) = documented().split_for_parts();
    layered(documented, state)
}

/// Appending alone, which appends nothing.
#[doc(hidden)]
pub fn limit_router(state: AppState) -> axum::Router {
    layered(axum::Router::new().route(paths::ENTRIES, post(limit::append_nothing)), state)
}

fn layered(routes: axum::Router<AppState>, state: AppState) -> axum::Router {
    let docs =
        SwaggerUi::new("/docs").config(Config::from("/openapi.json").try_it_out_enabled(true));
    // Without listed origins every foreign one is refused before, so there is nothing to allow.
    let origins = &state.settings.origins;
    let cors = (!origins.is_empty()).then(|| cors(origins));
    let envelope = EnvelopeLayer(state.clone());
    let routes = routes
        .route("/assets/style.css", get(system::style))
        .merge(docs)
        .fallback(async || {
            ApiError::new(ErrorCode::RouteNotFound, "no route of this gateway has this path")
                .into_response()
        })
        .method_not_allowed_fallback(async || {
            let detail = "this route does not take this method; `Allow` lists those it takes";
            ApiError::new(ErrorCode::MethodNotAllowed, detail).into_response()
        });
    // A layer that does nothing costs each request a box.
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(envelope).with_state(state)
}

/// For pages of the listed origins; any other origin was refused before.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let name = HeaderName::from_static;
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            ACCEPT,
            CONTENT_TYPE,
            name("last-event-id"),
            name("x-request-id"),
            name("if-match"),
            name("if-none-match"),
            name("idempotency-key"),
            name("idempotency-producer"),
            // What the specification of CloudEvents defines; whoever has extensions sends JSON.
            name("ce-specversion"),
            name("ce-id"),
            name("ce-source"),
            name("ce-type"),
            name("ce-dataschema"),
            name("ce-subject"),
            name("ce-time"),
        ])
        .expose_headers([
            ETAG,
            LINK,
            LOCATION,
            RETRY_AFTER,
            name("x-request-id"),
            name("idempotency-window"),
            name("idempotency-replayed"),
        ])
        .max_age(std::time::Duration::from_secs(600))
}
