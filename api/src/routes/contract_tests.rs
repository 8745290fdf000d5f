//! Tests that hold for every schema and every example of the document: generators of clients rely on them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::router::openapi_json;
use crate::http::ProblemCode;

/// Texts of any content, and names and codes that are chosen elsewhere: by callers, in definitions of sagas, in
/// templates, in other versions of the program. No list of them is complete.
const OPEN_TEXTS: [&str; 32] = [
    "action",
    "actor",
    "customer_email",
    "definition",
    "data",
    "description",
    "detail",
    "error",
    "graph_hash",
    "header",
    "html",
    "id",
    "instance",
    "key_id",
    "address",
    "message",
    "message_id",
    "name",
    "parameter",
    "paused_by",
    "pointer",
    "process",
    "queue",
    "reason",
    "reply",
    "resolved_by",
    "resolved_reason",
    "status_reason",
    "step",
    "subject",
    "template",
    "text",
];
/// More of them.
const OTHER_OPEN_TEXTS: [&str; 21] = [
    "business_key",
    "by",
    "category",
    "choice",
    "kind",
    "next_cursor",
    "note",
    "sku",
    "title",
    "to",
    "trace_id",
    "code",
    "why",
    "signal",
    "waits_for",
    "host",
    "key",
    "parent_definition",
    "role",
    "sender",
    "version",
];

fn document() -> Value {
    serde_json::from_str(&openapi_json()).expect("it is JSON")
}

/// Calls `visit` with each object below `value` and its JSON pointer, but not with examples.
fn walk<'a>(value: &'a Value, pointer: &str, visit: &mut impl FnMut(&str, &'a Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(pointer, object);
            for (name, below) in object {
                if !["example", "examples", "default", "enum"].contains(&name.as_str()) {
                    walk(below, &format!("{pointer}/{}", name.replace('/', "~1")), visit);
                }
            }
        }
        Value::Array(list) => {
            for (nth, below) in list.iter().enumerate() {
                walk(below, &format!("{pointer}/{nth}"), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn components(document: &Value) -> &Map<String, Value> {
    document["components"]["schemas"].as_object().expect("schemas")
}

/// The name of the component that a `$ref` leads to.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

fn is_nullable(schema: &Value) -> bool {
    let has_null = |schemas: &Value| schemas.as_array().is_some_and(|list| list.iter().any(is_nullable));
    schema["type"] == "null"
        || schema["type"].as_array().is_some_and(|types| types.contains(&json!("null")))
        || has_null(&schema["oneOf"])
        || has_null(&schema["anyOf"])
}

/// The components that these parts of operations hold, and what those hold in turn.
fn held(document: &Value, part: impl Fn(&Value) -> &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = Vec::new();
    for operation in document["paths"].as_object().expect("paths").values().filter_map(Value::as_object) {
        open.extend(operation.values().map(&part));
    }
    while let Some(value) = open.pop() {
        walk(value, "", &mut |_, object| {
            let object = object.get("$ref").and_then(|_| referred_in(object));
            if let Some(name) = object
                && names.insert(name.to_owned())
            {
                open.push(&components(document)[name]);
            }
        });
    }
    names
}

fn referred_in(object: &Map<String, Value>) -> Option<&str> {
    object.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/")
}

#[test]
fn every_choice_is_between_named_components() {
    let document = document();
    let mut wrong = Vec::new();
    walk(&document, "", &mut |pointer, object| {
        for choice in ["oneOf", "anyOf"] {
            let members = object.get(choice).and_then(Value::as_array);
            for member in members.into_iter().flatten() {
                if referred(member).is_none() && *member != json!({"type": "null"}) {
                    wrong.push(format!("{pointer}/{choice}: {member}"));
                }
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_choice_by_a_tag_names_the_tag_and_each_member_has_its_own() {
    let document = document();
    let mut seen = 0;
    walk(&document, "", &mut |pointer, object| {
        let members =
            object.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(referred);
        let members: Vec<_> = members.collect();
        let tags = |name: &str| {
            let fields = components(&document)[name]["properties"].as_object();
            let tags = fields
                .into_iter()
                .flatten()
                .filter(|(_, field)| field["enum"].as_array().is_some_and(|e| e.len() == 1));
            tags.map(|(name, field)| (name.clone(), field["enum"][0].clone())).collect::<BTreeMap<_, _>>()
        };
        if members.iter().all(|name| tags(name).is_empty()) {
            assert!(object.get("discriminator").is_none(), "{pointer} has a discriminator but no tags");
            return;
        }
        seen += 1;
        let tag = object["discriminator"]["propertyName"].as_str().expect("a tag");
        let mapping = object["discriminator"]["mapping"].as_object().expect("a mapping");
        assert_eq!(mapping.len(), members.len(), "{pointer}");
        for name in members {
            let value = tags(name)[tag].as_str().expect("a text").to_owned();
            assert_eq!(mapping[&value], format!("#/components/schemas/{name}"), "{pointer}");
            assert!(
                components(&document)[name]["required"]
                    .as_array()
                    .is_some_and(|all| all.contains(&json!(tag)))
            );
        }
    });
    assert!(seen > 0, "the cause of a workflow is such a choice");
}

#[test]
fn every_enumeration_is_a_named_component() {
    let document = document();
    let mut wrong = Vec::new();
    walk(&document, "", &mut |pointer, object| {
        let Some(values) = object.get("enum").and_then(Value::as_array) else { return };
        let is_component = pointer.starts_with("/components/schemas/") && pointer.matches('/').count() == 3;
        // The tag of a choice is a constant.
        if !is_component && values.len() > 1 {
            wrong.push(pointer.to_owned());
        }
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn enumerations_have_the_names_that_the_program_knows() {
    fn names<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<&'static str> {
        all.iter().map(|one| name(*one)).collect()
    }
    let known = [
        ("CancelOrigin", names(engine::CancelOrigin::ALL, engine::CancelOrigin::name)),
        ("ChoiceArm", names(engine::Arm::ALL, engine::Arm::name)),
        ("CircuitBreakerState", names(breakers::BreakerState::ALL, breakers::BreakerState::name)),
        ("DeadJobResolution", names(engine::DeadJobResolution::ALL, engine::DeadJobResolution::name)),
        ("Dependency", names(breakers::Dependency::ALL, breakers::Dependency::name)),
        ("MovementKind", names(shop::inventory::MovementKind::ALL, shop::inventory::MovementKind::name)),
        (
            "NotificationStatus",
            names(
                shop::notifications::NotificationStatus::ALL,
                shop::notifications::NotificationStatus::name,
            ),
        ),
        ("OrderStatus", names(shop::orders::OrderStatus::ALL, shop::orders::OrderStatus::name)),
        ("ReturnStatus", names(shop::returns::ReturnStatus::ALL, shop::returns::ReturnStatus::name)),
        ("ProcessState", names(engine::ProcessState::ALL, engine::ProcessState::name)),
        ("ProblemCode", names(ProblemCode::ALL, ProblemCode::name)),
        ("StepDirection", names(engine::Direction::ALL, engine::Direction::name)),
        ("StepKind", names(engine::StepKind::ALL, engine::StepKind::name)),
        ("StepOutcome", names(engine::HistoryOutcome::ALL, engine::HistoryOutcome::name)),
        ("StepPlacement", names(engine::Placement::ALL, engine::Placement::name)),
        ("StepUndo", names(engine::UndoKind::ALL, engine::UndoKind::name)),
        ("WorkflowSignalState", names(engine::SignalState::ALL, engine::SignalState::name)),
        ("WorkflowStatus", names(engine::Status::ALL, engine::Status::name)),
    ];
    let document = document();
    for (component, names) in &known {
        assert_eq!(components(&document)[*component]["enum"], json!(names), "{component}");
    }
    // Those that are derived from the very type that is sent, and the currencies.
    let derived =
        ["ArchiveReason", "Currency", "HealthState", "PlannedEffect", "ProductOutcome", "RequestedAction"];
    for (name, schema) in components(&document) {
        let is_known = derived.contains(&name.as_str()) || known.iter().any(|(known, _)| name == known);
        assert!(schema.get("enum").is_none() || is_known, "{name}");
    }
}

#[test]
fn every_text_has_a_form_or_a_list_of_values_or_is_known_to_be_open() {
    let document = document();
    let open: BTreeSet<_> = OPEN_TEXTS.into_iter().chain(OTHER_OPEN_TEXTS).collect();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    walk(&document["components"]["schemas"], "", &mut |pointer, object| {
        for (name, field) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let is_text = field["type"] == "string" || field["type"] == json!(["string", "null"]);
            let is_precise = ["format", "pattern", "enum"].iter().any(|word| field.get(word).is_some());
            if is_text && open.contains(name.as_str()) {
                used.insert(name.as_str());
            } else if is_text && !is_precise {
                wrong.push(format!("{pointer}: {name}"));
            }
        }
    });
    assert!(wrong.is_empty(), "make them enumerations, or say that they are open: {wrong:#?}");
    assert_eq!(open.difference(&used).collect::<Vec<_>>(), Vec::<&&str>::new(), "there are no such texts");
}

#[test]
fn a_field_of_a_response_is_always_there_or_never_null() {
    let document = document();
    let received = held(&document, |operation| &operation["requestBody"]);
    let sent = held(&document, |operation| &operation["responses"]);
    let mut optional = BTreeSet::new();
    for name in &sent {
        walk(&components(&document)[name], name, &mut |pointer, object| {
            let required = object.get("required").and_then(Value::as_array);
            for (field, schema) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if required.is_some_and(|required| required.contains(&json!(field))) {
                    continue;
                }
                assert!(!is_nullable(schema), "{pointer}: `{field}` may be missing, and may be null");
                optional.insert(format!("{pointer}.{field}"));
            }
        });
        let is_enumeration = components(&document)[name].get("enum").is_some();
        assert!(is_enumeration || !received.contains(name), "{name} is both sent and received");
    }
    let expected = [
        "FieldError.header",
        "FieldError.parameter",
        "FieldError.pointer",
        "Problem.continue_after",
        "Problem.errors",
        "Problem.plan",
        "StepFailure.details",
    ];
    assert_eq!(
        optional.iter().map(String::as_str).collect::<Vec<_>>(),
        expected,
        "all others are always sent"
    );
}

/// A validator of a schema of the document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let schema = json!({"components": document["components"], "allOf": [schema]});
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut validators = BTreeMap::new();
    let mut check = |place: &str, schema: &Value, example: &Value| {
        count += 1;
        let validator = validators.entry(schema.to_string()).or_insert_with(|| validator(&document, schema));
        let errors =
            validator.iter_errors(example).map(|error| format!("{}: {error}", error.instance_path()));
        let errors: Vec<_> = errors.collect();
        if !errors.is_empty() {
            wrong.push(format!("{place}: {errors:?}"));
        }
    };
    walk(&document, "", &mut |pointer, object| {
        let is_content = object.contains_key("schema");
        // A schema with an example of its own, or a parameter, a body or a response with examples.
        let schema = object.get("schema").cloned().unwrap_or_else(|| Value::Object(object.clone()));
        let is_schema = object.contains_key("type") || object.contains_key("$ref") || is_content;
        if let Some(example) = object.get("example").filter(|_| is_schema) {
            check(pointer, &schema, example);
        }
        for (name, example) in object.get("examples").and_then(Value::as_object).into_iter().flatten() {
            let shared = example["$ref"].as_str().map(|reference| {
                document
                    .pointer(reference.trim_start_matches('#'))
                    .unwrap_or_else(|| panic!("{reference} leads nowhere"))
            });
            if is_content {
                check(&format!("{pointer}/{name}"), &schema, &shared.unwrap_or(example)["value"]);
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 200, "only {count} examples were found");
}

/// Swagger UI fills in the examples of parameters. A key that was used, a version that is not current or an event that
/// is not kept would make the next call a failure.
#[test]
fn examples_of_parameters_can_be_sent_again_and_again() {
    let reusable = ["X-Actor", "Prefer", "topics", "name"];
    let document = document();
    walk(&document["paths"], "", &mut |pointer, object| {
        let is_parameter = object.contains_key("in") && object.contains_key("name");
        let has_example = object.contains_key("example")
            || object.get("schema").is_some_and(|s| s.get("example").is_some());
        if is_parameter && has_example {
            let name = object["name"].as_str().expect("a name");
            assert!(reusable.contains(&name), "{pointer}: {name}");
        }
    });
}

#[test]
fn every_description_says_which_role_is_needed() {
    let document = document();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let role = operation["x-required-role"].as_str().expect("a role");
            let expected = match role {
                "public" => "Needs no API key.".to_owned(),
                role => format!("Needs an API key with at least the role `{role}`."),
            };
            let description = operation["description"].as_str().expect("a description");
            assert!(description.ends_with(&expected), "{method} {path}: {description}");
        }
    }
}
