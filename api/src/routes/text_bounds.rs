//! Bounds of every text in a path or a query.

use utoipa::openapi::{
    RefOr, Schema,
    path::{Operation, ParameterIn},
    schema::{SchemaType, Type},
};

/// PostgreSQL can't search for U+0000.
pub(super) const SEARCHABLE: &str = r"^[^\u0000]*$";
/// The bound of `TextPath`.
const MAX_PATH_TEXT_LEN: usize = 128;

/// Documents the characters of texts in the path and the query, and the length of those in the path, where the
/// parameter says nothing more precise.
pub(crate) fn bound_texts(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let longest = match parameter.parameter_in {
            ParameterIn::Path => Some(MAX_PATH_TEXT_LEN),
            ParameterIn::Query => None,
            ParameterIn::Header | ParameterIn::Cookie | ParameterIn::QueryString => continue,
        };
        let Some(RefOr::T(Schema::Object(text))) = &mut parameter.schema else { continue };
        let is_text = matches!(&text.schema_type, SchemaType::Type(Type::String));
        if is_text && text.pattern.is_none() && text.format.is_none() && text.enum_values.is_none() {
            text.pattern = Some(SEARCHABLE.into());
            text.max_length = text.max_length.or(longest);
        }
    }
}
