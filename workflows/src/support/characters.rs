//! Characters that are not seen, and make a text look like another one.

use unicode_normalization::is_nfc;

/// Whether a character embeds, overrides or isolates a direction of writing. What follows it in the same line, be it a
/// price or another person's name, is shown in another order until a counterpart ends it. (The marks U+200E, U+200F and
/// U+061C stay: they move nothing but their neighbours, and names in Arabic or Hebrew need them.)
pub(super) fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character has no look of its own: Unicode's property `Default_Ignorable_Code_Point` (version 16). Zero-width
/// spaces and joiners, the byte order mark, the soft hyphen, and selectors of variants are among them.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether the text is composed (Unicode's normalization form C), so that no other sequence of characters is the same
/// text.
pub(super) fn is_composed(text: &str) -> bool {
    is_nfc(text)
}
