//! The OpenAPI document, generated from the types of the handlers.

pub(in crate::http) mod answers;
pub(in crate::http) mod durations;
pub(in crate::http) mod examples;
pub(in crate::http) mod forms;
pub(in crate::http) mod inlined;
pub(in crate::http) mod multi;
pub(in crate::http) mod name64;
pub(in crate::http) mod rules;
pub(in crate::http) mod security;
pub(in crate::http) mod shape;
pub(in crate::http) mod text;

use std::sync::Arc;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, ServerBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::http;
use crate::http::respond::asset::Asset;

/// Returns the OpenAPI document of this version.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = http::documented().into_openapi();
    document.info = InfoBuilder::new()
        .title("streamgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new()
                .name("MIT OR Apache-2.0")
                .identifier(Some("MIT OR Apache-2.0"))
                .build(),
        ))
        .contact(Some(
            ContactBuilder::new()
                .name(Some("The streamgate maintainers"))
                .build(),
        ))
        .build();
    document.servers = Some(vec![
        ServerBuilder::new()
            .url("http://127.0.0.1:8080")
            .description(Some("Local gateway at its default address"))
            .build(),
    ]);
    let tags = [
        ("streams", "Streams and their retention"),
        ("entries", "Append and read entries"),
        ("events", "Follow streams with server-sent events"),
        (
            "groups",
            "Consumer groups, their consumers and pending entries",
        ),
        (
            "work",
            "Read as a consumer; acknowledge, release and reject entries; extend leases",
        ),
        (
            "dead letters",
            "Entries that were rejected or could not be processed",
        ),
        ("sources", "Webhooks of other services"),
        ("tickets", "Credentials for browsers"),
        ("system", "Probes, metrics and this document"),
    ];
    let tag = |(name, text)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(tags.into_iter().map(tag).collect());
    // Responses refer to this schema by name, so utoipa does not collect it or its dependencies.
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert("Problem".to_owned(), http::Problem::schema());
    let mut referred = Vec::new();
    http::Problem::schemas(&mut referred);
    components.schemas.extend(referred);
    for (path, item) in &mut document.paths.paths {
        if path.contains("{stream}") {
            operations(item).for_each(name64::tell_name64);
        }
    }
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        forms::tell_form(operation);
    }
    security::add_security(&mut document);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Returns method, path and status of expected requests: the success statuses of each operation,
/// and the failures of the gateway and of Redis.
#[must_use]
pub fn expected_requests(document: &OpenApi) -> Vec<(&'static str, Arc<str>, u16)> {
    let mut expected = Vec::new();
    for (path, item) in &document.paths.paths {
        let path: Arc<str> = path.as_str().into();
        let methods = [
            ("GET", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("DELETE", &item.delete),
            ("PATCH", &item.patch),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let statuses = operation
                .responses
                .responses
                .keys()
                .filter_map(|code| code.parse().ok());
            let statuses = statuses.filter(|status| (200..300).contains(status) || *status >= 500);
            expected.extend(statuses.map(|status| (method, path.clone(), status)));
        }
    }
    expected
}

/// Returns the text of the OpenAPI document, as served and committed.
#[must_use]
pub fn text() -> String {
    text_of(&document())
}

/// Returns the JSON text of a document.
#[must_use]
pub fn text_of(document: &OpenApi) -> String {
    // Serializing a document of strings, numbers and maps cannot fail.
    let mut json = serde_json::to_value(document).unwrap_or_default();
    shape::finish(&mut json);
    let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
    text.push('\n');
    text
}

/// Returns a document as the file that the gateway serves.
#[must_use]
pub fn file(document: &OpenApi) -> Asset {
    Asset::of_text("application/json", text_of(document).into())
}

const DESCRIPTION: &str = "\
HTTP for Redis Streams: append entries, follow streams with server-sent events, process entries in \
consumer groups.

A duration has a unit (`500ms`, `20s`, `5m`). A time is RFC 3339, Unix milliseconds, or a duration, \
which means that long ago by the clock of Redis. A position is `<id>` or `<id>:<n>`, where n is the \
number of entries appended to the stream up to and including that id. Every parameter that takes a \
position takes both forms.

If authentication is enabled, a call needs an API key, a token or a ticket. Errors are problem \
documents (RFC 9457): compare `code`, and use `retryable` to decide on a retry. The extension \
`x-parameter-rules` of an operation, and `x-member-rules` of a body or schema, list parameters and \
members that exclude or need each other. A name stands for a given parameter or member, `name=value` \
for one with this value, `body.name` for a member of the body, `a&b` for both. A member that is null \
or an empty list counts as absent. A parameter with `x-opaque` accepts only values from earlier \
responses, or of the form that its description names. `x-content` lists the media types that a call \
accepts or returns besides JSON. Every call with a JSON body also accepts the same members as a form.";
