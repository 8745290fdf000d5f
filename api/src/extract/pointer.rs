//! Names the wrong parts of a body by their JSON pointers (RFC 6901).

use engine::push_pointer;

use crate::http::Problem;

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
            push_pointer(&mut last, field);
            if !pointer.ends_with(&last) || code == "missing-field" {
                pointer.push_str(&last);
            }
            return Problem::field(pointer, code, message);
        }
    }
    Problem::field(place, "invalid", message)
}
