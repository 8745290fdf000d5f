//! The kinds of text in bodies, each with its regular expression.
//!
//! A field names its kind as `format`; here the name is replaced by its pattern. The shop checks the same rules when it
//! receives the text.

use utoipa::openapi::{
    RefOr, Schema,
    schema::{ArrayItems, SchemaFormat},
};

/// The name of each kind, with its pattern.
const FORMATS: [(&str, &str); 5] = [
    // One line that neither begins nor ends with white space.
    (
        "line",
        r"^[^\u0000-\u001f\u007f-\u009f\s]([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s])?$",
    ),
    // One line that is not blank.
    (
        "non-blank-line",
        r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$",
    ),
    // One line, which may be empty.
    ("any-line", r"^[^\u0000-\u001f\u007f-\u009f]*$"),
    // Many lines: no control characters but tabs and line ends.
    ("prose", r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"),
    // Text that PostgreSQL can search for.
    ("searchable", r"^[^\u0000]*$"),
];

/// Replaces the kinds of text in a schema, and in what it holds, by their patterns.
pub(super) fn spell_out(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            if let Some(SchemaFormat::Custom(format)) = &object.format
                && let Some((_, pattern)) = FORMATS.iter().find(|(name, _)| name == format)
            {
                object.pattern = Some((*pattern).into());
                object.format = None;
            }
            object.properties.values_mut().for_each(spell_out);
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                spell_out(items);
            }
        }
        Schema::OneOf(one_of) => one_of.items.iter_mut().for_each(spell_out),
        Schema::AllOf(all_of) => all_of.items.iter_mut().for_each(spell_out),
        Schema::AnyOf(any_of) => any_of.items.iter_mut().for_each(spell_out),
        // The enum is not exhaustive.
        _ => {}
    }
}
