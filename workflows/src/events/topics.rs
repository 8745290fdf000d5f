//! Filters events by patterns over their routing keys, like topic exchanges.

use std::str::FromStr;

/// The most patterns of one filter.
const MAX_PATTERNS: usize = 32;
const MAX_PATTERN_LEN: usize = 128;

/// A filter of events: a list of patterns, one of which has to match. In a pattern `*` stands for one word and `#` for
/// any number of words, including none.
///
/// ```
/// let topics: shop::events::Topics = "order.*,inventory.low".parse()?;
/// assert!(topics.matches_key("order.confirmed"));
/// assert!(topics.matches_key("inventory.low"));
/// assert!(!topics.matches_key("inventory.updated"));
/// # Ok::<(), shop::events::TopicsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics(Vec<Vec<Word>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    This(String),
    One,
    Any,
}

/// The text is not a list of patterns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// There are too many patterns.
    #[error("at most {MAX_PATTERNS} patterns can be given")]
    TooMany,
    /// A pattern is malformed.
    #[error(
        "`{0}` is no pattern: words of a-z, 0-9, `_` and `-` with dots between them, `*` for one word, `#` for any \
         number of words, {MAX_PATTERN_LEN} characters at most"
    )]
    Pattern(String),
}

impl Topics {
    /// Matches every event.
    pub fn all() -> Self {
        Self(vec![vec![Word::Any]])
    }

    /// Whether an event with this routing key matches.
    pub fn matches_key(&self, routing_key: &str) -> bool {
        let words: Vec<&str> = routing_key.split('.').collect();
        self.0.iter().any(|pattern| matches(pattern, &words))
    }
}

impl FromStr for Topics {
    type Err = TopicsError;

    fn from_str(text: &str) -> Result<Self, TopicsError> {
        let patterns = text.split(',').map(pattern).collect::<Result<Vec<_>, _>>()?;
        if patterns.len() > MAX_PATTERNS { Err(TopicsError::TooMany) } else { Ok(Self(patterns)) }
    }
}

fn pattern(text: &str) -> Result<Vec<Word>, TopicsError> {
    let text = text.trim();
    let wrong = || TopicsError::Pattern(text.chars().take(MAX_PATTERN_LEN).collect());
    if text.len() > MAX_PATTERN_LEN {
        return Err(wrong());
    }
    let is_plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    let mut words = Vec::new();
    for word in text.split('.') {
        match word {
            "*" => words.push(Word::One),
            // A second `#` in a row matches nothing more, and would only make matching slower.
            "#" if words.last() == Some(&Word::Any) => {}
            "#" => words.push(Word::Any),
            _ if is_plain(word) => words.push(Word::This(word.to_owned())),
            _ => return Err(wrong()),
        }
    }
    Ok(words)
}

/// Whether a pattern covers all words. It works through the pattern row by row, so that the cost grows only linearly
/// with the number of `#`.
fn matches(pattern: &[Word], words: &[&str]) -> bool {
    // `reached[n]`: the pattern so far covers the first n words.
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    for word in pattern {
        let before = reached.clone();
        for (n, now) in reached.iter_mut().enumerate() {
            *now = match word {
                Word::Any => before[..=n].contains(&true),
                Word::One => n > 0 && before[n - 1],
                Word::This(text) => n > 0 && before[n - 1] && words[n - 1] == text,
            };
        }
    }
    reached[words.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(topics: &str, key: &str) -> bool {
        topics.parse::<Topics>().expect("patterns").matches_key(key)
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        for (topics, key, expected) in [
            ("order.*", "order.created", true),
            ("order.*", "order", false),
            ("order.*", "order.status.changed", false),
            ("order.#", "order", true),
            ("order.#", "order.status.changed", true),
            ("#", "inventory.low", true),
            ("*", "inventory.low", false),
            ("#.low", "inventory.low", true),
            ("#.#.low", "low", true),
            ("*.#.low", "low", false),
            ("inventory.low", "inventory.low", true),
            ("inventory.low", "inventory.lower", false),
            ("order.created, inventory.*", "inventory.low", true),
            ("order.created,order.confirmed", "order.rejected", false),
        ] {
            assert_eq!(wants(topics, key), expected, "{topics} {key}");
        }
        assert!(Topics::all().matches_key("a.b.c"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for text in ["", "order.", ".", "order.*,", "Order.*", "order.cre*", "or der.x", "ord\u{e9}r.x"] {
            assert!(matches!(text.parse::<Topics>(), Err(TopicsError::Pattern(_))), "{text:?}");
        }
        assert!("x".repeat(129).parse::<Topics>().is_err());
        assert_eq!(vec!["a.b"; 33].join(",").parse::<Topics>(), Err(TopicsError::TooMany));
    }

    #[test]
    fn the_cost_of_many_hashes_grows_linearly() {
        let topics = vec!["#.a"; 30].join(".");
        assert!(topics.len() <= MAX_PATTERN_LEN);
        assert!(!wants(&topics, &vec!["a"; 29].join(".")));
        assert!(wants(&topics, &vec!["a"; 60].join(".")));
    }
}
