//! How one setting is declared: its variable, its default and what it should be, in one place.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its default; `None` when an unset variable has a meaning of its own.
    pub(crate) default: Option<&'static str>,
    /// What it should be, to finish the sentence "… should be".
    pub(crate) expects: &'static str,
    /// Whether its value is a secret, which can then be in a file that `<name>_FILE` names.
    pub(crate) is_secret: bool,
}

/// A setting with a default.
pub(super) const fn setting(name: &'static str, default: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: Some(default), expects, is_secret: false }
}

/// A setting that may be unset.
pub(super) const fn optional(name: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: None, expects, is_secret: false }
}

/// A setting that may be unset and whose value is never shown.
pub(super) const fn secret(name: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: None, expects, is_secret: true }
}
