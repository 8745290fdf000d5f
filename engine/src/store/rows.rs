//! Which of the rows that a statement finds by itself it changes.

use uuid::Uuid;

/// Of the rows that a statement finds, those that it changes. A row that makes the statement fail is left out, and of
/// the others a part is changed at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    All,
    AllBut(&'a [Uuid]),
    Only(&'a [Uuid]),
}

impl<'a> Rows<'a> {
    /// All rows but these, of which there are mostly none.
    pub(crate) fn all_but(ids: &'a [Uuid]) -> Self {
        if ids.is_empty() { Self::All } else { Self::AllBut(ids) }
    }

    /// A condition on a column, to be appended to others. The ids are the parameter with this number; all rows need
    /// neither a condition nor the parameter, which may be bound all the same.
    pub(super) fn and(self, column: &str, parameter: u8) -> String {
        match self {
            Self::All => String::new(),
            Self::AllBut(_) => format!(" and {column} <> all(${parameter})"),
            Self::Only(_) => format!(" and {column} = any(${parameter})"),
        }
    }

    pub(super) fn ids(self) -> &'a [Uuid] {
        match self {
            Self::All => &[],
            Self::AllBut(ids) | Self::Only(ids) => ids,
        }
    }
}
