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

/// Declares a section of the configuration: a struct whose fields are read from one variable each.
///
/// A field is `name: Type = declaration => method(arguments)`: the declaration is one of the functions above, the method is
/// one of `Reader`, which gets the setting and the arguments. The macro makes the struct, the list `SETTINGS` of its
/// variables, and `read`.
macro_rules! section {
    (
        $(#[$docs:meta])*
        $name:ident {
            $(
                $(#[$field_docs:meta])*
                $field:ident: $type:ty = $declare:ident($($declared:expr),* $(,)?) => $read:ident($($argument:expr),* $(,)?);
            )*
        }
    ) => {
        $(#[$docs])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[$field_docs])* pub(crate) $field: $type,)*
        }

        impl $name {
            /// The variables of this section, in the order of `.env.example`.
            pub(super) const SETTINGS: &'static [$crate::config::settings::Setting] =
                &[$($crate::config::settings::$declare($($declared),*),)*];

            /// Reads the section; a wrong value is noted in the reader.
            pub(super) fn read(read: &mut $crate::config::reader::Reader<'_>) -> Self {
                Self {
                    $($field: read.$read(&$crate::config::settings::$declare($($declared),*), $($argument),*),)*
                }
            }
        }
    };
}

pub(super) use section;
