//! The console: a page on streams, groups and dead letters, made of plain ES modules.
//!
//! The files are public and contain no data. The page calls the API with the credential of its
//! user, so it can do nothing that its user cannot do with other clients.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::middleware::map_response;
use axum::response::{Redirect, Response};
use axum::routing::get;
use serde::Serialize;

use crate::auth::{CredentialKind, Grants};
use crate::http::extract::access::Caller;
use crate::http::extract::{NoParams, Query};
use crate::http::respond::asset::{self, Asset, gzipped};
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::http::system::pages::keep_to_itself;

/// The path of the page. The files are below it.
pub const PATH: &str = "/console/";
/// The path of the rights of the caller, the only one below [`PATH`] that needs a credential.
pub const ACCESS: &str = "/console/access";

/// Content security policy of the console. The page creates all elements by DOM calls: strings can
/// become neither HTML nor scripts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// Lists files of `assets/console` with their contents.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../assets/console/", $name)))),*]
    };
}

/// The files of the console. `index.html` is the page itself.
const FILES: &[(&str, &str)] = &files![
    "index.html",
    "action.js",
    "api.js",
    "app.js",
    "dead_letters.js",
    "dialog.js",
    "dom.js",
    "entry.js",
    "entry_view.js",
    "event_stream.js",
    "format.js",
    "group_view.js",
    "groups.js",
    "history.js",
    "home.js",
    "icon.svg",
    "json_tree.js",
    "layout.css",
    "live.js",
    "login.js",
    "notices.js",
    "paging.js",
    "parts.css",
    "pending.js",
    "publish.js",
    "route.js",
    "selection.js",
    "session.js",
    "stream_forms.js",
    "stream_list.js",
    "stream_stats.js",
    "stream_view.js",
    "system_view.js",
    "tabs.js",
    "virtual_list.js",
];

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

fn assets() -> HashMap<&'static str, Asset> {
    let asset = |(name, text): &(&'static str, &str)| {
        let asset = Asset::of_gzip(content_type(name), gzipped(text.as_bytes()).into())?;
        Some((*name, asset))
    };
    FILES.iter().filter_map(asset).collect()
}

/// A caller, as the console shows it.
#[derive(Serialize)]
struct AccessOut {
    /// Whether calls need a credential.
    authentication: bool,
    /// The kind of credential; null without authentication.
    credential: Option<&'static str>,
    /// Name of the caller; empty without authentication, and for a ticket.
    name: String,
    /// Grants of the caller.
    grants: Vec<GrantOut>,
    /// Upper limit of the grants; null if there is none, and for a ticket.
    ceiling: Option<Vec<GrantOut>>,
}

/// Rights on streams.
#[derive(Serialize)]
struct GrantOut {
    rights: Vec<&'static str>,
    /// A name, or `PREFIX*`.
    streams: String,
}

fn grants(grants: &Grants) -> Vec<GrantOut> {
    let out = grants.iter().map(|(rights, pattern)| GrantOut {
        rights: rights.iter().map(|right| right.as_str()).collect(),
        streams: pattern.to_string(),
    });
    out.collect()
}

/// Returns the rights of the caller, so that the console offers only what the caller may do.
async fn access(
    Caller(principal): Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Json<AccessOut> {
    // The holder of a ticket is not its maker, and must not learn the name and the grants of the maker.
    let is_ticket = principal.kind == CredentialKind::Ticket;
    let ceiling = principal.ceiling.as_ref().filter(|_| !is_ticket);
    Json(AccessOut {
        authentication: state.auth.is_on(),
        credential: match principal.kind {
            CredentialKind::Anyone => None,
            CredentialKind::Key => Some("key"),
            CredentialKind::Token => Some("token"),
            CredentialKind::Ticket => Some("ticket"),
        },
        name: if is_ticket {
            String::new()
        } else {
            principal.name.to_string()
        },
        grants: grants(&principal.grants),
        ceiling: ceiling.map(grants),
    })
}

/// Returns the routes of the console.
pub fn routes() -> Router<AppState> {
    let assets = Arc::new(assets());
    let page = assets.clone();
    Router::new()
        .route("/console", get(async || Redirect::to(PATH)))
        .route(
            PATH,
            get(async move |request: HeaderMap| asset::answer(&page, "index.html", &request)),
        )
        .route(
            "/console/{file}",
            get(async move |Path(file): Path<String>, request: HeaderMap| {
                asset::answer(&assets, &file, &request)
            }),
        )
        .layer(map_response(async |mut response: Response| {
            keep_to_itself(response.headers_mut(), POLICY);
            response
        }))
        .route(ACCESS, get(access))
}
