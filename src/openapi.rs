//! The OpenAPI document: what the handlers' types say, with a cover.

use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContactBuilder, InfoBuilder, LicenseBuilder, OpenApi};
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
    secure(&mut document);
    document
}

/// Says how callers show who they are, and where they need not.
fn secure(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let bearer = bearer.description(Some("An API key, or a token that a known issuer has signed"));
    let key = ApiKeyValue::with_description("X-API-Key", "An API key");
    let ticket = ApiKeyValue::with_description("ticket", "A ticket; for reading alone");
    for (name, scheme) in [
        ("bearer", SecurityScheme::Http(bearer.build())),
        ("key", SecurityScheme::ApiKey(ApiKey::Header(key))),
        ("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket))),
    ] {
        components.add_security_scheme(name, scheme);
    }
    let asked = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    for (path, item) in &mut document.paths.paths {
        let public = api::is_public(path);
        let operations = [
            (&mut item.get, true),
            (&mut item.put, false),
            (&mut item.post, false),
            (&mut item.patch, false),
            (&mut item.delete, false),
        ];
        for (operation, reads) in operations {
            let Some(operation) = operation else { continue };
            let mut all = vec![asked("bearer"), asked("key")];
            if reads {
                all.push(asked("ticket"));
            }
            // Nothing is asked of anybody where no credentials are configured.
            operation.security = Some(if public { Vec::new() } else { all });
        }
    }
}

/// The document as it is served and committed.
#[must_use]
pub fn text() -> String {
    // A document of strings, numbers and maps always serializes.
    let mut text = document().to_pretty_json().unwrap_or_default();
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
