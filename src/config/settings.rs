//! Declares a setting: its variable, its default and its expected value, in one place.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The variable's name.
    pub(crate) name: &'static str,
    /// The default; `None` when an unset variable has a meaning that is not a value.
    pub(crate) default: Option<&'static str>,
    /// The expected value, as the end of the sentence "… should be".
    pub(crate) expects: &'static str,
    /// Whether the value is a secret, which can then be in a file that `<name>_FILE` names.
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
