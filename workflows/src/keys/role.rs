//! The roles of API keys.

use strum::{VariantArray, VariantNames};

use crate::support::text_column::text_column;

/// The role of a key; each role includes those before it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_role)]
pub enum KeyRole {
    /// Read everything but the audit log.
    Read,
    /// Also change the shop: orders, products, stock, notifications.
    Write,
    /// Also operate it: workflows, dead jobs, queues, the audit log.
    Operate,
}

impl KeyRole {
    /// All roles, the weakest first.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// The name that is stored and given on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether this role may do what needs the role `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }
}

fn unknown_role(text: &str) -> String {
    format!("`{text}` is no role of a key; it is one of {}", <KeyRole as VariantNames>::VARIANTS.join(", "))
}

text_column!(KeyRole);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_those_before_it_and_none_after() {
        for (at, role) in KeyRole::ALL.iter().enumerate() {
            for (other_at, &other) in KeyRole::ALL.iter().enumerate() {
                assert_eq!(role.includes(other), other_at <= at, "{role} and {other}");
            }
        }
    }
}
