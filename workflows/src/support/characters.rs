//! Characters that are not seen, and make a text look like another one.

use unicode_normalization::is_nfc;

/// Whether a character embeds, overrides or isolates a direction of writing. What follows it in the same line, be it a
/// price or another person's name, is shown in another order until a counterpart ends it. They are those of Unicode's
/// property `Bidi_Control` but for the marks U+200E, U+200F and U+061C, which move nothing but their neighbours: names in
/// Arabic or Hebrew need them.
pub(super) fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character has no look of its own.
///
/// - Unicode's property `Default_Ignorable_Code_Point`: zero-width spaces and joiners, the byte order mark, the soft hyphen,
///   selectors of variants, and what is reserved for their like.
/// - All other format characters (`Cf`) but those that are drawn around digits (`Prepended_Concatenation_Mark`).
/// - Two symbols that are drawn as nothing: the Braille pattern without dots, and the note without a head.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether the text is composed (Unicode's normalization form C), so that no other sequence of characters is the same
/// text.
pub(super) fn is_composed(text: &str) -> bool {
    is_nfc(text)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    /// The characters on which a rule and a class of Unicode's own properties disagree. The tables of `regex` are made of
    /// Unicode's data.
    fn disagreeing(rule: fn(char) -> bool, class: &str) -> Vec<char> {
        let class = Regex::new(class).expect("a class");
        let mut text = [0; 4];
        ('\0'..=char::MAX).filter(|&c| rule(c) != class.is_match(c.encode_utf8(&mut text))).collect()
    }

    #[test]
    fn what_turns_the_direction_is_what_unicode_says() {
        let class = r"[\p{Bidi_Control}--[\u{61c}\u{200e}\u{200f}]]";
        assert_eq!(disagreeing(turns_direction, class), []);
    }

    #[test]
    fn what_is_invisible_is_what_unicode_says() {
        let class =
            r"[\p{Default_Ignorable_Code_Point}[\p{Cf}--\p{Prepended_Concatenation_Mark}]\u{2800}\u{1d159}]";
        assert_eq!(disagreeing(is_invisible, class), []);
    }
}
