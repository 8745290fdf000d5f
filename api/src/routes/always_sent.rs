//! Which fields responses always have.
//!
//! A field of a response that is `None` is sent as `null`, so it is always there, but utoipa documents it as one that may be
//! missing, as it would be in a request. So in what only responses hold, each field that can be `null` is required. A field
//! that is left out instead is never `null`: it says so with `#[schema(nullable = false)]` beside its
//! `#[serde(skip_serializing_if = …)]`.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{
    OpenApi, RefOr, Schema,
    schema::{AdditionalProperties, ArrayItems, SchemaType, Type},
};

/// Makes required what responses always have.
pub(super) fn require(document: &mut OpenApi) {
    let received = received(document);
    let Some(components) = &mut document.components else { return };
    for (name, schema) in &mut components.schemas {
        if !received.contains(name) {
            require_nullable(schema);
        }
    }
}

fn require_nullable(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            for (name, field) in &object.properties {
                if is_nullable(field) && !object.required.contains(name) {
                    object.required.push(name.clone());
                }
            }
        }
        RefOr::T(Schema::AllOf(all_of)) => all_of.items.iter_mut().for_each(require_nullable),
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

fn is_nullable(schema: &RefOr<Schema>) -> bool {
    let RefOr::T(schema) = schema else { return false };
    match schema {
        Schema::Object(object) => match &object.schema_type {
            SchemaType::Array(types) => types.contains(&Type::Null),
            SchemaType::Type(one) => *one == Type::Null,
            // Whether it may be left out is said by the field itself.
            SchemaType::AnyValue => false,
        },
        Schema::Array(array) => {
            matches!(&array.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
        }
        Schema::OneOf(one_of) => one_of.items.iter().any(is_nullable),
        Schema::AnyOf(any_of) => any_of.items.iter().any(is_nullable),
        // The enum is not exhaustive.
        _ => false,
    }
}

/// The names of all components that requests hold.
fn received(document: &OpenApi) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let empty = BTreeMap::new();
    let components = document.components.as_ref().map_or(&empty, |components| &components.schemas);
    for item in document.paths.paths.values() {
        let operations = [&item.get, &item.put, &item.post, &item.delete, &item.patch];
        for body in operations.into_iter().flatten().filter_map(|operation| operation.request_body.as_ref()) {
            let RefOr::T(body) = body else { continue };
            for content in body.content.values() {
                let RefOr::T(content) = content else { continue };
                if let Some(schema) = &content.schema {
                    collect(schema, components, &mut names);
                }
            }
        }
    }
    names
}

fn collect(
    schema: &RefOr<Schema>,
    components: &BTreeMap<String, RefOr<Schema>>,
    names: &mut BTreeSet<String>,
) {
    let mut each = |schemas: &[RefOr<Schema>]| {
        for schema in schemas {
            collect(schema, components, names);
        }
    };
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            if names.insert(name.to_owned())
                && let Some(schema) = components.get(name)
            {
                collect(schema, components, names);
            }
        }
        RefOr::T(Schema::Object(object)) => {
            for field in object.properties.values() {
                collect(field, components, names);
            }
            if let Some(AdditionalProperties::RefOr(schema)) = object.additional_properties.as_deref() {
                collect(schema, components, names);
            }
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &array.items {
                collect(items, components, names);
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => each(&one_of.items),
        RefOr::T(Schema::AllOf(all_of)) => each(&all_of.items),
        RefOr::T(Schema::AnyOf(any_of)) => each(&any_of.items),
        // The enum is not exhaustive.
        RefOr::T(_) => {}
    }
}
