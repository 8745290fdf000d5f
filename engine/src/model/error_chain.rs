//! Shows an error with all its causes, as a log line needs it: the outermost says what failed, the innermost why.

use std::{error::Error, fmt, iter};

/// Displays an error and its causes, outermost first. A cause that the error before it already says is left out.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a, E: ?Sized>(pub &'a E);

impl<E: Error + ?Sized> fmt::Display for ErrorChain<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes = iter::successors(self.0.source(), |&error| error.source());
        let texts = iter::once(self.0.to_string()).chain(causes.map(ToString::to_string));
        write_in_one_line(f, texts)
    }
}

/// An error and its causes, as they are stored, in one line like that of [`ErrorChain`], so that lists name the root cause.
pub(crate) fn in_one_line(error: &[String]) -> String {
    let mut line = String::new();
    let _ = write_in_one_line(&mut line, error);
    line
}

fn write_in_one_line(
    line: &mut impl fmt::Write,
    texts: impl IntoIterator<Item = impl AsRef<str>>,
) -> fmt::Result {
    let mut said = None::<String>;
    for text in texts {
        let text = text.as_ref();
        match &said {
            Some(said) if said.ends_with(text) => continue,
            Some(_) => write!(line, ": {text}")?,
            None => line.write_str(text)?,
        }
        said = Some(text.to_owned());
    }
    Ok(())
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
            let stored: Vec<String> = texts.iter().map(ToString::to_string).collect();
            assert_eq!(in_one_line(&stored), shown);
        }
        assert_eq!(in_one_line(&[]), "");
    }
}
