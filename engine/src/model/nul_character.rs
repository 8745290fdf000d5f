//! Replaces the NUL character, which PostgreSQL's `text` and `jsonb` can't store.

use serde_json::Value;

/// Replaces every NUL by U+FFFD, the replacement character.
pub(crate) fn replace_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Replaces every NUL in a JSON value.
pub(crate) fn replace_nul_in_json(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = replace_nul(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(replace_nul_in_json),
        Value::Object(fields) if fields.keys().any(|name| name.contains('\0')) => {
            let cleaned = std::mem::take(fields).into_iter().map(|(name, mut field)| {
                replace_nul_in_json(&mut field);
                (replace_nul(name), field)
            });
            *fields = cleaned.collect();
        }
        Value::Object(fields) => fields.values_mut().for_each(replace_nul_in_json),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether JSON text contains an escaped NUL. `\u0000` behind an escaped backslash is plain text.
pub(crate) fn json_holds_nul(json: &str) -> bool {
    json.match_indices("\\u0000").any(|(at, _)| {
        let before = json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
        before % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_escaped_nul_is_not_confused_with_text_that_looks_like_one() {
        for text in ["a\0", "\\\0", "\0"] {
            assert!(json_holds_nul(&json!(text).to_string()), "{text:?}");
        }
        for text in ["\\u0000", "\\\\u0000", "u0000", "\\"] {
            assert!(!json_holds_nul(&json!(text).to_string()), "{text:?}");
        }
    }
}
