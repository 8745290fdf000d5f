//! Bounds what a problem repeats of its request, which can be as large as a body.

/// The most things that one problem lists as wrong.
pub(crate) const MAX_ERRORS: usize = 100;

/// The most bytes of one text.
const MAX_TEXT_BYTES: usize = 1024;

/// Cuts a text that is too long, and says how much of it is missing.
pub(crate) fn cut(text: String) -> String {
    if text.len() <= MAX_TEXT_BYTES {
        return text;
    }
    let (kept, left_out) = text.split_at(text.floor_char_boundary(MAX_TEXT_BYTES));
    format!("{kept}… ({} more bytes)", left_out.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = cut("茶".repeat(1000));
        assert!(text.len() < MAX_TEXT_BYTES + 30 && text.ends_with("茶… (1977 more bytes)"), "{text}");
        assert_eq!(cut("tea".into()), "tea");
    }
}
