//! The arms of choices, and those that a saga has taken.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One arm of a choice.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Arm {
    /// What is run if the predicate says yes.
    Yes,
    /// What is run if it says no; of a `when`, nothing.
    No,
}

impl Arm {
    /// Both arms, in the order of their declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The arm that a predicate chooses.
    pub(crate) fn of(answer: bool) -> Self {
        if answer { Self::Yes } else { Self::No }
    }

    /// The letter that stands for the arm among those of a saga.
    fn letter(self) -> char {
        match self {
            Self::Yes => 'y',
            Self::No => 'n',
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The arms that a saga has taken, in the order in which it came to the choices. With its graph they say which steps it
/// has passed. In JSON they are a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arms(Vec<Arm>);

impl Arms {
    /// The arms in order.
    pub fn iter(&self) -> impl Iterator<Item = Arm> + '_ {
        self.0.iter().copied()
    }

    /// These arms and one more.
    pub(crate) fn and(&self, arm: Arm) -> Self {
        Self(self.iter().chain([arm]).collect())
    }

    /// How they are stored, a letter each: `yn`; `None` if there are none.
    pub(crate) fn stored(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.iter().map(Arm::letter).collect())
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// When a letter stands for no arm.
    pub(crate) fn read(stored: Option<&str>) -> Result<Self, String> {
        stored.map_or_else(|| Ok(Self::default()), str::parse)
    }
}

impl FromStr for Arms {
    type Err = String;

    fn from_str(stored: &str) -> Result<Self, String> {
        let arm = |letter| {
            let arm = Arm::ALL.iter().copied().find(|arm| arm.letter() == letter);
            arm.ok_or_else(|| format!("`{letter}` stands for no arm"))
        };
        stored.chars().map(arm).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_stored_as_a_letter_each() {
        let arms = Arms::default().and(Arm::Yes).and(Arm::No);
        assert_eq!(arms.stored().as_deref(), Some("yn"));
        assert_eq!(Arms::read(Some("yn")), Ok(arms));
        assert_eq!((Arms::read(None), Arms::default().stored()), (Ok(Arms::default()), None));
        assert_eq!(Arms::read(Some("yx")), Err("`x` stands for no arm".into()));
    }
}
