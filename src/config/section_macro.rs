//! The macro that declares a section: a struct, the list of its variables, and how it is read.

/// Declares a section of the configuration: a struct whose fields are read from one variable each.
///
/// A field is `name: Type = declaration => method(arguments)`: the declaration is one of the functions in `settings`, the
/// method is one of `Reader`, which gets the setting and the arguments. The macro makes the struct, the list `SETTINGS` of
/// its variables, and `read`.
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

            /// Reads the section; a wrong value is recorded in the reader.
            pub(super) fn read(read: &mut $crate::config::reader::Reader<'_>) -> Self {
                Self {
                    $($field: read.$read(&$crate::config::settings::$declare($($declared),*), $($argument),*),)*
                }
            }
        }
    };
}

pub(super) use section;
