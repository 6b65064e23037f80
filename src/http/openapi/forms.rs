//! Request bodies that are optional or also accepted as a form.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// Removes null from the alternatives of a body schema: a body can be absent, but not null.
///
/// A form has the schema of the JSON body, although a form has no null and no nesting. A schema of
/// its own would become a second type in generated clients, which use only one.
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
