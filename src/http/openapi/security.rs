//! Security schemes of the OpenAPI document, and the operations that require them.

use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use crate::http;

/// Adds the security schemes and the requirements of each operation.
pub(super) fn add_security(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let bearer = bearer.description(Some("An API key, or a token signed by a configured issuer"));
    let key = ApiKeyValue::with_description("X-API-Key", "An API key");
    let ticket = ApiKeyValue::with_description("ticket", "A ticket, accepted only for reads");
    for (name, scheme) in [
        ("bearer", SecurityScheme::Http(bearer.build())),
        ("key", SecurityScheme::ApiKey(ApiKey::Header(key))),
        ("ticket", SecurityScheme::ApiKey(ApiKey::Query(ticket))),
    ] {
        components.add_security_scheme(name, scheme);
    }
    let asked = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    for (path, item) in &mut document.paths.paths {
        let public = http::is_public(path);
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
            // Gateways without configured credentials accept all calls.
            operation.security = Some(if public { Vec::new() } else { all });
        }
    }
}
