//! The parameter `name64`, which every operation with a stream in its path accepts.

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, RefOr, Required};

/// Adds `name64` to an operation with a stream in its path. It comes last, because generated
/// clients pass parameters in the order of the document, and few callers need it.
pub fn tell_name64(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let name64 = ParameterBuilder::new()
        .name("name64")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "The name of the stream in base64, for names that a path cannot carry. It overrides the \
             name in the path",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    parameters.push(RefOr::T(name64));
}
