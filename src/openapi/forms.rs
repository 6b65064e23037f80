//! Bodies that can be sent as forms, too: a form has no null, and nothing within anything.

use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayItems, SchemaType, Type};
use utoipa::openapi::{Components, RefOr, Schema};

use super::words::never_null;

const FORM: &str = "application/x-www-form-urlencoded";

/// Gives forms a schema of their own, made of the one for JSON. A body may be left out; one that is
/// there is not null.
pub fn tell_form(operation: &mut Operation, components: &Components) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
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
    let Some(RefOr::T(form)) = body.content.get_mut(FORM) else { return };
    let Some(RefOr::Ref(reference)) = &form.schema else { return };
    let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
    let Some(RefOr::T(schema)) = components.schemas.get(name) else { return };
    form.schema = Some(RefOr::T(as_form(schema.clone())));
}

fn as_form(mut schema: Schema) -> Schema {
    match &mut schema {
        Schema::Object(object) => {
            object.properties.retain(|_, member| is_flat(member));
            for member in object.properties.values_mut() {
                match member {
                    RefOr::T(Schema::Object(value)) => never_null(value),
                    RefOr::T(Schema::OneOf(choice)) => choice.items.retain(|item| !is_null(item)),
                    _ => {}
                }
            }
        }
        Schema::AllOf(all) => {
            for item in &mut all.items {
                if let RefOr::T(part @ Schema::Object(_)) = item {
                    *part = as_form(part.clone());
                }
            }
        }
        _ => {}
    }
    schema
}

/// Words, or a list of them.
fn is_flat(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::Ref(reference) => {
            let nested = ["/NewPolicy", "/NewRetention"];
            !nested.iter().any(|name| reference.ref_location.ends_with(name))
        }
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter().all(is_flat),
        RefOr::T(Schema::Array(list)) => match &list.items {
            ArrayItems::RefOrSchema(items) => is_flat(items),
            ArrayItems::False => true,
        },
        RefOr::T(_) => true,
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null))
}
