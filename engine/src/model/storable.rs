//! Makes errors storable: PostgreSQL can't store NUL characters, and no error should be long.

use serde_json::{Value, json};

use crate::model::{
    nul_character::{replace_nul, replace_nul_in_json},
    outcome::Failure,
};

/// The most bytes of one sentence or code.
const MAX_TEXT: usize = 8 * 1024;
/// The most sentences of one error: it and its causes.
const MAX_TEXTS: usize = 32;
/// The most bytes of the JSON of an error's details.
const MAX_DETAILS: usize = 256 * 1024;

/// Cuts a text that is too long, and says how much of it is missing.
pub(crate) fn storable_text(text: String) -> String {
    if text.len() <= MAX_TEXT {
        return replace_nul(text);
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    format!("{}… ({} more bytes)", replace_nul(text[..end].to_owned()), text.len() - end)
}

/// Makes an error with its causes storable.
pub(crate) fn storable_texts(texts: Vec<String>) -> Vec<String> {
    let left_out = texts.len().saturating_sub(MAX_TEXTS);
    let mut texts: Vec<String> = texts.into_iter().take(MAX_TEXTS).map(storable_text).collect();
    if left_out > 0 {
        texts.push(format!("… ({left_out} more causes)"));
    }
    texts
}

/// Makes the details of an error storable; details that are too large are replaced by their size.
pub(crate) fn storable_details(mut details: Value) -> Value {
    if details.is_null() {
        return details;
    }
    let size = details.to_string().len();
    if size > MAX_DETAILS {
        return json!({ "omitted_bytes": size });
    }
    replace_nul_in_json(&mut details);
    details
}

/// Makes a failure storable.
pub(crate) fn storable_failure(failure: &Failure) -> Failure {
    let Failure { code, message, details } = failure.clone();
    Failure { code: storable_text(code), message: storable_text(message), details: storable_details(details) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nul_character::json_holds_nul;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let stored = storable_text("茶".repeat(10_000));
        assert!(stored.len() < MAX_TEXT + 40 && stored.ends_with("茶… (21810 more bytes)"), "{stored}");
        assert_eq!(storable_text("a\0b".into()), "a\u{fffd}b");
    }

    #[test]
    fn an_endless_chain_of_causes_is_cut() {
        let stored = storable_texts(vec!["again".into(); 1000]);
        assert_eq!((stored.len(), stored[32].as_str()), (33, "… (968 more causes)"));
    }

    #[test]
    fn details_that_are_too_large_are_replaced_by_their_size() {
        let large = json!({ "reply": "x".repeat(MAX_DETAILS) });
        assert_eq!(storable_details(large), json!({ "omitted_bytes": MAX_DETAILS + 12 }));
        let small = json!({ "reply": "x" });
        assert_eq!(storable_details(small.clone()), small);
    }

    #[test]
    fn every_nul_of_a_failure_is_replaced() {
        let failure = Failure::new("c\0", "m\0").with(json!({"a\0": ["b\0", {"c": "d\0"}], "n": 1}));
        let stored = serde_json::to_string(&storable_failure(&failure)).unwrap();
        assert!(!json_holds_nul(&stored), "{stored}");
        assert_eq!(stored.matches('\u{fffd}').count(), 5, "{stored}");
    }
}
