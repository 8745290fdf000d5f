//! Checks a part of a body against a JSON schema that is known only at run time.

use engine::push_pointer;
use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use crate::http::{FieldError, MAX_ERRORS, Problem, ProblemCode};

/// Checks `input` against a schema.
///
/// # Errors
/// A 422 that lists the errors, each with its JSON pointer, which starts with `place`.
pub(crate) fn check(schema: &Validator, place: &str, input: &Value) -> Result<(), Problem> {
    // One more than are reported shows that there are more.
    let errors = schema.iter_errors(input).take(MAX_ERRORS + 1);
    let errors: Vec<_> = errors.flat_map(|error| field_errors(place, &error)).take(MAX_ERRORS + 1).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem::fields(ProblemCode::InvalidBody, errors))
}

fn field_errors(place: &str, error: &ValidationError<'_>) -> Vec<FieldError> {
    let place = format!("{place}{}", error.instance_path());
    let below = |name: &str| {
        let mut place = place.clone();
        push_pointer(&mut place, name);
        place
    };
    // The error of the schema is about the object; the caller wants to know which field is wrong.
    if let ValidationErrorKind::AdditionalProperties { unexpected }
    | ValidationErrorKind::UnevaluatedProperties { unexpected } = error.kind()
    {
        let field =
            |name: &String| FieldError::at(below(name), "unknown-field", format!("unknown field `{name}`"));
        return unexpected.iter().map(field).collect();
    }
    if let ValidationErrorKind::Required { property: Value::String(name) } = error.kind() {
        return vec![FieldError::at(below(name), "missing-field", format!("missing field `{name}`"))];
    }
    vec![FieldError::at(place, "invalid", error.to_string())]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_error_has_its_pointer() {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "lines": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}
            },
            "required": ["id"],
            "additionalProperties": false
        });
        let schema = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
        check(&schema, "/input", &json!({"id": "0199f3a0-0000-7000-8000-000000000000", "lines": [{"n": 1}]}))
            .expect("right");
        let wrong = json!({"lines": [{"n": 1}, {"n": "x"}, {}], "a/b": 1});
        let body = check(&schema, "/input", &wrong).expect_err("wrong").to_body("/", "t");
        let mut found: Vec<_> = body
            .errors
            .into_iter()
            .map(|error| format!("{} {}", error.pointer.unwrap_or_default(), error.code))
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "/input/a~1b unknown-field",
                "/input/id missing-field",
                "/input/lines/1/n invalid",
                "/input/lines/2/n missing-field"
            ]
        );
        check(&schema, "/input", &json!({"id": "no uuid"})).expect_err("format is checked");
    }
}
