//! Bodies that may be left out, and that are taken as a form, too.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// Takes null out of the choices of a body: a body may be left out, and one that is sent is not null.
///
/// A form has the schema of the JSON body. It has no null and nothing nested, but a schema of its own
/// would be a second type in generated clients, of which they use one.
pub fn tell_form(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return;
    };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(choice))) = &mut content.schema
        {
            choice.items.retain(|item| !is_null(item));
            if let [one] = choice.items.as_slice() {
                content.schema = Some(one.clone());
            }
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}
