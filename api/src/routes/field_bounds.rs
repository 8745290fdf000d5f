//! The bounds of fields in bodies.
//!
//! utoipa takes only literals for lengths and ranges. So a field names its bounds in `shop::bounds` as its `format`; here
//! the name is replaced by what it stands for. The shop checks the same bounds when it receives the request.

use shop::bounds::{NUMBERS, NumberBounds, TEXTS, TextBounds};
use utoipa::openapi::{
    KnownFormat, RefOr, Schema,
    schema::{ArrayItems, Object, SchemaFormat},
};

use super::text_bounds::SEARCHABLE;

/// Replaces the names of bounds in a schema, and in what it holds, by the bounds.
pub(super) fn spell_out(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            if let Some(SchemaFormat::Custom(name)) = &object.format {
                let name = name.clone();
                bound(object, &name);
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

fn bound(field: &mut Object, name: &str) {
    if let Some(TextBounds { kind, min, max, .. }) = TEXTS.iter().find(|bounds| bounds.name == name) {
        let pattern = kind.pattern();
        field.format = pattern.is_none().then_some(SchemaFormat::KnownFormat(KnownFormat::Email));
        field.pattern = pattern.map(Into::into);
        // A field may narrow them: a reason can be optional in one place and required in another.
        field.min_length = field.min_length.or((*min > 0).then_some(*min));
        field.max_length = field.max_length.or(Some(*max));
    } else if let Some(NumberBounds { min, max, .. }) = NUMBERS.iter().find(|bounds| bounds.name == name) {
        field.format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
        field.minimum = Some((*min).into());
        field.maximum = (*max < i64::MAX).then(|| (*max).into());
    } else if name == "searchable" {
        field.format = None;
        field.pattern = Some(SEARCHABLE.into());
    }
}
