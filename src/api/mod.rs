//! The only room that knows HTTP: routes in one list, what is common to all of them in
//! `envelope`, `guard` and `error`, one file for each kind of resource.

mod access;
mod ack;
mod answers;
mod append;
mod append_answer;
mod append_body;
mod append_errors;
mod append_lines;
mod append_plan;
mod append_run;
mod base_path;
mod body;
mod capabilities;
mod claims;
mod code;
mod compress;
mod conditions;
mod consumers;
mod cors;
mod dead_letters;
mod deletion;
mod entry;
mod entry_bounds;
mod envelope;
mod error;
mod event_schema;
mod event_stream;
mod events;
mod events_many;
mod extract;
mod follow;
mod gap;
mod group_patch;
mod groups;
mod guard;
mod host;
mod identify;
mod inflate;
mod items;
mod json;
mod limit;
mod malformed;
mod many;
mod multipart;
mod name64;
mod names;
mod no_route;
mod pages;
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
#[doc(hidden)]
pub mod reading;
mod redrive;
mod request;
mod request_log;
mod retention;
mod scheduled;
mod schema;
mod session;
mod settle;
mod shorten;
mod single;
mod store_error;
mod stream_full;
mod stream_param;
mod stream_patch;
mod streams;
mod system;
mod tickets;
mod turned_away;
mod type_errors;
mod unread_body;
mod view;
mod work;
mod work_many;

use axum::http::Uri;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use base_path::BasePath;
use envelope::EnvelopeLayer;
pub(crate) use envelope::answer_panic;
pub use error::{ApiError, ErrorCode, FieldError, Problem, SideEffects};
pub use identify::is_public_path as is_public;
pub use malformed::Malformed;
pub use pairs::nearest;
pub use request::Client;
pub(crate) use session::{HandOver, Session};
pub use system::quick_start;
pub use turned_away::{Standing, TurnedAway};

use crate::state::AppState;

/// Every documented route, with the document they make.
pub fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(streams::list_streams))
        .routes(routes!(
            streams::read_stream,
            stream_patch::create_stream,
            stream_patch::patch_stream,
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
        .routes(routes!(many::read_many))
        .routes(routes!(events::follow_events))
        .routes(routes!(events_many::follow_many))
        .routes(routes!(groups::list_groups))
        .routes(routes!(
            groups::create_group,
            groups::read_group,
            group_patch::move_group,
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
        .routes(routes!(
            dead_letters::list_dead_letters,
            dead_letters::purge_dead_letters
        ))
        .routes(routes!(
            dead_letters::read_dead_letter,
            dead_letters::delete_dead_letter
        ))
        .routes(routes!(redrive::redrive_dead_letters))
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
        .routes(routes!(tickets::make_ticket))
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
    layered(
        documented
            .route("/assets/style.css", get(system::style))
            .merge(pages::docs()),
        state,
    )
}

/// What there is for those who look after the gateway.
pub fn probes_router(state: AppState) -> axum::Router {
    let routes = axum::Router::new()
        .route("/livez", get(system::live))
        .route("/readyz", get(system::ready))
        .route("/metrics", get(system::metrics));
    layered(routes, state)
}

/// Appending alone, which appends nothing.
#[doc(hidden)]
pub fn limit_router(state: AppState) -> axum::Router {
    layered(
        axum::Router::new().route(paths::ENTRIES, post(limit::append_nothing)),
        state,
    )
}

fn layered(routes: axum::Router<AppState>, state: AppState) -> axum::Router {
    // Without listed origins every foreign one is refused before, so there is nothing to allow.
    let origins = &state.settings.origins;
    let cors = (!origins.is_empty()).then(|| cors::layer(origins));
    let envelope = EnvelopeLayer(state.clone());
    let routes = routes
        .fallback(async |uri: Uri| no_route::problem(uri.path()).into_response())
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
