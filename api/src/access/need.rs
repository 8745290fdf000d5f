//! What a route asks of its caller.

use shop::keys::KeyRole;

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequiredRole {
    /// Nothing: anybody may call it.
    Public,
    /// A key with this role, or one that includes it.
    Key(KeyRole),
}

impl RequiredRole {
    /// As the OpenAPI document names it, in `x-required-role`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Key(role) => role.name(),
        }
    }
}
