//! Shows an error with all its causes, as a log line needs it: the outermost says what failed, the innermost why.

use std::{error::Error, fmt};

/// Displays an error and its causes, outermost first. A cause that the error before it already says is left out.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a, E: ?Sized>(pub &'a E);

impl<E: Error + ?Sized> fmt::Display for ErrorChain<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failed {
        text: &'static str,
        source: Option<Box<Failed>>,
    }

    fn failed(texts: &[&'static str]) -> Failed {
        let (text, causes) = texts.split_first().unwrap();
        let source = (!causes.is_empty()).then(|| Box::new(failed(causes)));
        Failed { text, source }
    }

    #[test]
    fn every_cause_is_shown_once() {
        for (texts, shown) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["the database failed: b", "b", "c"], "the database failed: b: c"),
            (&["a", "b", "b", "c"], "a: b: c"),
        ] {
            assert_eq!(ErrorChain(&failed(texts)).to_string(), shown);
        }
    }
}
