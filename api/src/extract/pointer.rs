//! JSON pointers (RFC 6901) to the wrong parts of a body.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::http::Problem;

/// Writes the path of a decoding error as a pointer; empty for the whole body.
pub(crate) fn of(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            // The name of a variant is no place in the JSON.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Appends a name to a pointer.
pub(crate) fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

/// Finds the first string or name that contains U+0000.
pub(crate) fn of_nul(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| Some(format!("/{index}{}", of_nul(item)?)))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let mut pointer = String::new();
            push(&mut pointer, name);
            if name.contains('\0') {
                return Some(pointer.replace('\0', "\u{fffd}"));
            }
            Some(pointer + &of_nul(item)?)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// The problem for JSON that does not fit an operation. For the most common mistakes serde names the field only in its
/// message.
pub(crate) fn data_problem(place: &str, message: &str) -> Problem {
    let message = message.split(" at line ").next().unwrap_or(message);
    for (start, code) in [
        ("unknown field `", "unknown-field"),
        ("missing field `", "missing-field"),
        ("duplicate field `", "duplicate-field"),
    ] {
        if let Some(field) = message.strip_prefix(start).and_then(|rest| rest.split('`').next()) {
            let mut pointer = place.to_owned();
            let mut last = String::new();
            push(&mut last, field);
            if !pointer.ends_with(&last) || code == "missing-field" {
                pointer.push_str(&last);
            }
            return Problem::field(pointer, code, message);
        }
    }
    Problem::field(place, "invalid", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_is_found_in_strings_and_names() {
        assert_eq!(of_nul(&json!({"a": [{"b/c": "x\0"}]})), Some("/a/0/b~1c".into()));
        assert_eq!(of_nul(&json!({"a\0": 1})), Some("/a\u{fffd}".into()));
        assert_eq!(of_nul(&json!({"a": "fine", "n": null, "t": true})), None);
    }
}
