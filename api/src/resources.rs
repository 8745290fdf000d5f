//! What the API is about, one module a resource; handlers are named `<verb>_<resource>`, which is also their operation id.

pub(crate) mod audit;
pub(crate) mod circuit_breakers;
pub(crate) mod dead_jobs;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod notifications;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod queues;
pub(crate) mod workflows;

use serde_json::{Value, json};
use shop::Violation;

use crate::problem::{FieldError, Problem, ProblemCode};

/// Tags of the OpenAPI document, with what they hold.
pub(crate) const TAGS: [(&str, &str); 8] = [
    ("orders", "Place, read, move along and cancel orders"),
    ("inventory", "Products and their stock"),
    ("notifications", "Mails and what became of them"),
    ("workflows", "Start, watch and cancel sagas of any definition"),
    ("events", "What happened, as it happens"),
    ("dead jobs", "What is out of attempts and waits for a person"),
    ("queues", "What waits to be worked on; pause it and let it go on"),
    ("operations", "Health, metrics, the audit and this document"),
];

/// Everything that is wrong with a body.
fn invalid(violations: Vec<Violation>) -> Problem {
    let errors = violations.into_iter().map(|wrong| FieldError::at(wrong.pointer, wrong.code, wrong.message));
    Problem::fields(ProblemCode::InvalidBody, errors.collect())
}

/// Checks a reason that a person gives.
fn check_reason(reason: &str) -> Result<(), Problem> {
    shop::check_reason("/reason", reason).map_or(Ok(()), |wrong| Err(invalid(vec![wrong])))
}

/// An example of a list with one item.
fn page_of(item: &Value) -> Value {
    json!({"items": [item], "next_cursor": "AXx0ZXN0AZnzoAAAcACAAAAAAAAAAA"})
}
