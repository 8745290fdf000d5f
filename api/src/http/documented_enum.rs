//! Documents enumerations of the shop and the engine in the OpenAPI document.

use utoipa::openapi::{
    RefOr, Schema,
    schema::{ObjectBuilder, Type},
};

/// Documents an enumeration by the names of its variants. The type that it defines stands for the shop's or the
/// engine's own in `value_type`.
macro_rules! documented_enum {
    ($name:ident, $description:literal, $all:expr) => {
        #[doc = $description]
        pub(crate) struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::http::documented_enum::schema($description, $all.iter().map(|variant| variant.name()))
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use documented_enum;

/// The schema of an enumeration.
pub(crate) fn schema(description: &str, names: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(names))
        .into()
}
