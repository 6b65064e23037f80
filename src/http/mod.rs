//! HTTP API: routes, request parsing and responses. This file lists all routes. `envelope`, `guard`
//! and `error` hold what all routes share. Each kind of resource has its own file.

mod bounds;
mod entries;
mod error;
mod events;
mod extract;
mod fast_path;
mod groups;
mod layer;
pub mod openapi;
mod paths;
#[doc(hidden)]
pub mod reading;
mod respond;
mod sources;
pub mod state;
mod streams;
mod system;
mod tickets;

use crate::http::entries::append;
use crate::http::entries::append_baseline;
use crate::http::entries::deletion;
use crate::http::entries::entry;
use crate::http::entries::multi;
use crate::http::entries::range;
use crate::http::entries::scheduled;
use crate::http::groups::ack;
use crate::http::groups::claims;
use crate::http::groups::consumers;
use crate::http::groups::dead_letters;
use crate::http::groups::pending;
use crate::http::groups::push;
use crate::http::groups::read;
use crate::http::groups::read_multi;
use crate::http::groups::settle;
use crate::http::layer::cors;
use crate::http::layer::no_route;
use crate::http::streams::patch;
use crate::http::system::capabilities;
use crate::http::system::console;
use crate::http::system::pages;

use axum::http::Uri;
use axum::response::IntoResponse as _;
use axum::routing::{get, options, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use crate::http::error::{ApiError, ErrorCode, FieldError, Problem, SideEffects};
pub(crate) use crate::http::events::session::{DetachableSession, Session};
pub use crate::http::fast_path::FastTarget;
pub(crate) use crate::http::fast_path::{
    FastAnswer, FastPath, ResponseBytes, WholeRequest, recognise,
};
pub use crate::http::layer::base_path::BasePath;
pub use crate::http::layer::identify::is_public_path as is_public;
pub use crate::http::layer::malformed::Malformed;
pub use crate::http::layer::rejection::{RateLimitHeaders, RejectedRequest};
pub use crate::http::layer::request::ClientAddress;
use crate::http::layer::request_layer::RequestLayer;
pub(crate) use crate::http::layer::request_layer::answer_panic;
pub use crate::http::system::quick_start;

use crate::http::state::AppState;

/// Returns the documented routes, together with their OpenAPI document.
pub fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(streams::list_streams))
        .routes(routes!(
            streams::read_stream,
            patch::create_stream,
            patch::patch_stream,
            streams::delete_stream
        ))
        .routes(routes!(
            range::read_entries,
            append::append_entries,
            deletion::delete_entries
        ))
        .routes(routes!(entry::read_entry, deletion::delete_entry))
        .routes(routes!(deletion::trim_stream))
        .routes(routes!(scheduled::list_scheduled))
        .routes(routes!(
            scheduled::read_scheduled,
            scheduled::cancel_scheduled
        ))
        .routes(routes!(multi::read_many))
        .routes(routes!(events::follow_events))
        .routes(routes!(events::multi::follow_many))
        .routes(routes!(groups::list_groups))
        .routes(routes!(
            groups::create_group,
            groups::read_group,
            groups::patch::move_group,
            groups::delete_group
        ))
        .routes(routes!(read::read_as_consumer))
        .routes(routes!(read_multi::read_many_as_consumer))
        .routes(routes!(ack::ack_entries))
        .routes(routes!(ack::ack_entries_of_many))
        .routes(routes!(settle::nack_entries))
        .routes(routes!(settle::nack_entries_of_many))
        .routes(routes!(settle::reject_entries))
        .routes(routes!(settle::reject_entries_of_many))
        .routes(routes!(settle::extend_entries))
        .routes(routes!(settle::extend_entries_of_many))
        .routes(routes!(
            dead_letters::list_dead_letters,
            dead_letters::purge_dead_letters
        ))
        .routes(routes!(
            dead_letters::read_dead_letter,
            dead_letters::delete_dead_letter
        ))
        .routes(routes!(groups::redrive::redrive_dead_letters))
        .routes(routes!(groups::order_keys::list_keys))
        .routes(routes!(
            groups::order_keys::read_key,
            groups::order_keys::free_key
        ))
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
        .routes(routes!(sources::receive_delivery))
        .route(paths::SOURCE, options(sources::allow_sender))
        .routes(routes!(tickets::make_ticket))
        .routes(routes!(capabilities::read_capabilities))
        .routes(routes!(system::index))
        .routes(routes!(system::live))
        .routes(routes!(system::ready))
        .routes(routes!(system::metrics))
        .routes(routes!(system::openapi))
}

/// Returns the router of the whole service.
pub fn router(state: AppState) -> axum::Router {
    let (documented, _) = documented().split_for_parts();
    let mut routes = documented.merge(pages::docs());
    if state.settings.console {
        routes = routes.merge(console::routes());
    }
    layered(routes, state)
}

/// Returns the router of the operators' endpoints: probes and metrics.
pub fn probes_router(state: AppState) -> axum::Router {
    let routes = axum::Router::new()
        .route("/livez", get(system::live))
        .route("/readyz", get(system::ready))
        .route("/metrics", get(system::metrics));
    layered(routes, state)
}

/// Returns a router with the append route alone, whose handler appends nothing.
#[doc(hidden)]
pub fn limit_router(state: AppState) -> axum::Router {
    layered(
        axum::Router::new().route(paths::ENTRIES, post(append_baseline::append_nothing)),
        state,
    )
}

fn layered(routes: axum::Router<AppState>, state: AppState) -> axum::Router {
    // Without configured origins, cross-origin requests are refused earlier: CORS allows nothing.
    let origins = &state.settings.origins;
    let cors = (!origins.is_empty()).then(|| cors::layer(origins));
    let envelope = RequestLayer(state.clone());
    let routes = routes
        .fallback(async |uri: Uri| no_route::problem(uri.path()).into_response())
        .method_not_allowed_fallback(async || {
            let detail =
                "the route does not support this method; `Allow` lists the methods it supports";
            ApiError::new(ErrorCode::MethodNotAllowed, detail).into_response()
        });
    // A layer that does nothing costs one heap allocation per request.
    let routes = match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes.layer(envelope).with_state(state)
}
