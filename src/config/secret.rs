//! URLs that may contain a password, which is never shown.

use std::{fmt, fs::File, io::Read};

use super::redact::redact;

/// The largest file from which a secret is read.
const LARGEST_FILE: u64 = 64 * 1024;

/// Reads a secret from a file, without leading and trailing white space such as the line end.
///
/// # Errors
/// The expected content of the file.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("a file that can be read ({error})"))?;
    let mut text = String::new();
    let size = file.take(LARGEST_FILE + 1).read_to_string(&mut text);
    match size {
        Err(error) => Err(format!("a file with text in it ({error})")),
        Ok(size) if size as u64 > LARGEST_FILE => Err(format!("a file of at most {LARGEST_FILE} bytes")),
        Ok(_) if text.trim().is_empty() => Err("a file with something in it".into()),
        Ok(_) => Ok(text.trim().to_owned()),
    }
}

/// A URL whose password [`fmt::Display`] and [`fmt::Debug`] hide.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL with its password, to connect.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
