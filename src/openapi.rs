//! The OpenAPI document: what the handlers' types say, with a cover.

mod forms;
mod security;
mod words;

use std::sync::Arc;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi, RefOr};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::api;

/// The document of this version.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = api::documented().into_openapi();
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
        .contact(Some(ContactBuilder::new().name(Some("The streamgate maintainers")).build()))
        .build();
    let tags = [
        ("streams", "Streams as a whole"),
        ("entries", "Appending and reading entries"),
        ("events", "Following a stream"),
        ("groups", "Consumer groups"),
        ("work", "Working in a group"),
        ("dead letters", "What nobody could work off: looking at it, giving it back"),
        ("tickets", "For browsers"),
        ("system", "The gateway itself"),
    ];
    let tag = |(name, text)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(tags.into_iter().map(tag).collect());
    // Responses name this schema by hand, so nothing else brings it and what it refers to along.
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), api::Problem::schema());
    let mut referred = Vec::new();
    api::Problem::schemas(&mut referred);
    components.schemas.extend(referred);
    for (name, schema) in &mut components.schemas {
        words::tell_members(name, schema);
    }
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter {
                words::tell_parameter(parameter);
            }
        }
        forms::tell_form(operation, components);
    }
    security::tell(&mut document);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// Method, path and status of requests to expect: what each operation answers when it succeeds, and
/// the failures of the gateway and of Redis.
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
            let statuses =
                operation.responses.responses.keys().filter_map(|code| code.parse().ok());
            let statuses = statuses.filter(|status| (200..300).contains(status) || *status >= 500);
            expected.extend(statuses.map(|status| (method, path.clone(), status)));
        }
    }
    expected
}

/// The document as it is served and committed.
#[must_use]
pub fn text() -> String {
    text_of(&document())
}

/// The text of a document.
#[must_use]
pub fn text_of(document: &OpenApi) -> String {
    // A document of strings, numbers and maps always serializes.
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

const DESCRIPTION: &str = "\
HTTP for Redis Streams: publish entries, follow streams by server-sent events, work them off in \
consumer groups.

Durations carry a unit (`500ms`, `20s`, `5m`). Times are RFC 3339, Unix milliseconds, or a \
duration, meaning that long ago by the clock of Redis. A position is `<id>` or `<id>:<n>`, where n \
is how many entries the stream had been given up to there; every place that takes one takes both. \
Where the gateway asks who is calling, a call \
shows an API key, a token or a ticket; otherwise credentials are not looked at. Errors are problems after RFC 9457, with a `code` to compare and `retryable` to decide by.";
