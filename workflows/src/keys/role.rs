//! What a key may do.

use std::{fmt, str::FromStr};

use crate::support::text_column::text_column;

/// What a key may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRole {
    /// Look at everything but the audit.
    Read,
    /// Change the shop: orders, products, stock, notifications.
    Write,
    /// Repair: workflows, dead jobs, queues, the audit.
    Operate,
}

impl KeyRole {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Operate];

    /// The name as it is stored and written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        }
    }

    /// Whether whoever has this role may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For rows.
impl TryFrom<String> for KeyRole {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for KeyRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            format!("`{text}` is no role of a key; it is one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

text_column!(KeyRole);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it_and_none_after() {
        for (at, role) in KeyRole::ALL.into_iter().enumerate() {
            for (other_at, other) in KeyRole::ALL.into_iter().enumerate() {
                assert_eq!(role.includes(other), other_at <= at, "{role} and {other}");
            }
        }
    }
}
