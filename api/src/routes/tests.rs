//! Tests that the routes, their roles and their document agree.

use std::collections::BTreeSet;

use axum::Router;
use http::Method;
use serde_json::Value;
use shop::{bounds::MAX_ORDER_LINES, keys::KeyRole, sagas::RESERVED_PREFIXES};

use super::{
    base_document::{self, SCHEME},
    router::{openapi_json, router, table},
    service::Service,
};
use crate::{
    auth::{RequiredRole, is_limited},
    load::Limits,
    resources::docs,
    state::ApiState,
};

/// The two paths of axum's fallback. The first is also a page of ours.
const FALLBACK: [&str; 2] = ["/", "/{*__private__axum_fallback}"];

/// The paths of a finished router, however they came into it: axum shows them in its debug output.
fn paths(router: &Router) -> BTreeSet<String> {
    let debug = format!("{router:?}");
    let texts = debug.split('"').skip(1).step_by(2);
    texts.filter(|text| text.starts_with('/') && !FALLBACK.contains(text)).map(Into::into).collect()
}

#[tokio::test]
async fn every_served_path_has_declared_its_role() {
    for services in [Service::ALL, &[]] {
        let served = paths(&router(ApiState::bare(Limits::default()), services));
        let pages = if services.is_empty() { &docs::PATHS[..] } else { &[] };
        let (_, _, route_roles) = table(services).into_parts();
        // A worker declares the OpenAPI document's pages too, and does not serve them.
        let declared = route_roles.paths().filter(|path| !pages.contains(path) && !FALLBACK.contains(path));
        let declared = declared.map(Into::into).collect();
        assert_eq!(served, declared, "what is served is what is declared");
    }
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
        })
        .map(|(path, method, operation)| (format!("{method} {path}"), operation))
        .collect()
}

fn document() -> Value {
    serde_json::from_str(&openapi_json()).expect("it is JSON")
}

#[test]
fn the_document_reserves_the_business_keys_that_the_shop_reserves() {
    let schema = &document()["components"]["schemas"]["NewWorkflow"]["properties"]["business_key"];
    let validator = jsonschema::validator_for(schema).expect("a valid schema");
    for prefix in RESERVED_PREFIXES {
        assert!(!validator.is_valid(&format!("{prefix}x").into()), "{prefix}");
    }
    assert!(validator.is_valid(&"my-key:x".into()));
}

#[test]
fn every_operation_says_what_it_does_and_gives_examples() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        for field in ["summary", "description", "operationId"] {
            assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{name} lacks {field}");
        }
        assert!(
            ids.insert(operation["operationId"].as_str().map(ToOwned::to_owned)),
            "{name}: id is used twice"
        );
        for (status, response) in operation["responses"].as_object().expect("responses") {
            if status == "304" {
                continue;
            }
            for (kind, content) in
                response["content"].as_object().unwrap_or_else(|| panic!("{name} {status}: no content"))
            {
                let has = content.get("example").is_some() || content.get("examples").is_some();
                assert!(has, "{name} {status} {kind} lacks an example");
            }
        }
        if let Some(body) = operation.get("requestBody") {
            let content = &body["content"]["application/json"];
            assert!(
                content.get("example").is_some() || content.get("examples").is_some(),
                "{name}: body lacks an example"
            );
        }
        assert!(operation["responses"].get("500").is_some(), "{name} lacks its errors");
    }
}

#[test]
fn every_reference_resolves() {
    let text = openapi_json();
    let document = document();
    for part in text.split("\"$ref\": \"#").skip(1) {
        let pointer = part.split('"').next().expect("a string");
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}

/// A field that names bounds which there are not would be documented without any.
#[test]
fn no_format_is_the_name_of_bounds() {
    let known = ["date-time", "double", "email", "int32", "int64", "uuid"];
    let text = openapi_json();
    for part in text.split("\"format\": \"").skip(1) {
        let format = part.split('"').next().expect("a string");
        assert!(known.contains(&format), "{format}");
    }
}

#[test]
fn lists_of_items_are_as_long_as_the_shop_takes_them() {
    let document = document();
    for (schema, max) in [("NewOrder", MAX_ORDER_LINES), ("ProductBatch", shop::commands::MAX_BULK_PRODUCTS)]
    {
        assert_eq!(
            document["components"]["schemas"][schema]["properties"]["items"]["maxItems"], max,
            "{schema}"
        );
    }
}

#[test]
fn the_document_is_version_3_1_with_a_licence_and_known_tags() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["license"]["identifier"], "MIT");
    let known: BTreeSet<_> = base_document::TAGS.iter().map(|(name, _)| *name).collect();
    for (name, operation) in operations(&document) {
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        assert!(known.contains(tag), "{name}: `{tag}`");
    }
}

#[test]
fn every_operation_of_the_document_has_a_declared_role_and_says_so() {
    let document: Value = serde_json::from_str(&openapi_json()).expect("it is JSON");
    let (_, _, route_roles) = table(Service::ALL).into_parts();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = format!("{method} {path}");
            let verb = method.to_ascii_uppercase().parse().expect("a method");
            let required =
                route_roles.of(path, &verb).unwrap_or_else(|| panic!("{name} has no declared role"));
            assert_eq!(operation["x-required-role"], required.name(), "{name}");
            let counted = operation["responses"]["429"].is_object();
            assert_eq!(counted, is_limited(path), "{name}");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                for (header, _) in base_document::RATE_LIMIT_HEADERS {
                    let reference = response["headers"][header]["$ref"].as_str();
                    let component = format!("#/components/headers/{header}");
                    assert_eq!(reference, counted.then_some(component.as_str()), "{name} {status} {header}");
                }
            }
            let security = operation["security"].as_array().unwrap_or_else(|| panic!("{name}: no security"));
            match required {
                RequiredRole::Public => {
                    assert!(security.is_empty(), "{name} is public but asks for a key");
                }
                RequiredRole::Key(_) => {
                    assert!(security[0].get(SCHEME).is_some(), "{name} does not ask for a key");
                    for status in ["401", "403", "503"] {
                        assert!(operation["responses"].get(status).is_some(), "{name} lacks {status}");
                    }
                }
            }
            documented.insert((path.clone(), verb.to_string()));
        }
    }
    let declared: BTreeSet<_> = route_roles
        .declared()
        .filter(|(path, ..)| !docs::PATHS.contains(path))
        .map(|(path, method, _)| (path.to_owned(), method.to_string()))
        .collect();
    assert_eq!(declared, documented, "what is declared is what is documented");
}

#[test]
fn readers_may_only_read_and_only_health_and_the_document_are_public() {
    let (_, _, route_roles) = table(Service::ALL).into_parts();
    for (path, method, required) in route_roles.declared() {
        match required {
            RequiredRole::Public => {
                let open = path.starts_with("/health") || path.starts_with("/docs");
                assert!(open || ["/", "/openapi.json"].contains(&path), "{path} is public");
            }
            RequiredRole::Key(KeyRole::Read) => assert_eq!(method, Method::GET, "{path}"),
            RequiredRole::Key(KeyRole::Write | KeyRole::Operate) => {}
        }
    }
}

#[test]
fn undeclared_methods_and_paths_have_no_role() {
    let (_, _, route_roles) = table(Service::ALL).into_parts();
    assert_eq!(route_roles.of("/api/orders", &Method::DELETE), None);
    assert_eq!(route_roles.of("/api/secrets", &Method::GET), None);
    assert_eq!(route_roles.of("/api/orders", &Method::HEAD), route_roles.of("/api/orders", &Method::GET));
    assert_eq!(route_roles.allow("/api/orders").as_deref(), Some("GET,HEAD,POST"));
}
