//! Request bodies that are optional or also accepted as a form.

use serde_json::{Map, Value, json};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::model::form_check::MAX_NAME;

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

/// Names of fields: no control characters except tabs and line breaks.
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]+$";

/// Bounds the names of a form with any names.
pub fn bound_names(body: &mut Map<String, Value>) {
    for media_type in ["application/x-www-form-urlencoded", "multipart/form-data"] {
        let content = body
            .get_mut("content")
            .and_then(|all| all.get_mut(media_type));
        if let Some(Value::Object(schema)) = content.and_then(|content| content.get_mut("schema"))
            && schema.contains_key("propertyNames")
        {
            let names = json!({
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_NAME,
                "pattern": NO_CONTROL_CHARACTERS,
            });
            schema.insert("propertyNames".to_owned(), names);
            schema.insert("minProperties".to_owned(), 1.into());
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}
