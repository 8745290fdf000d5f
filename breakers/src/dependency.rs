//! What the system calls outside of itself.

use std::{fmt, str::FromStr};

/// Something outside that may fail on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    /// The mail server.
    Smtp,
    /// Redis, whatever it is used for.
    Redis,
    /// The AMQP broker that events are published to.
    Amqp,
}

impl Dependency {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Smtp, Self::Redis, Self::Amqp];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Redis => "redis",
            Self::Amqp => "amqp",
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dependency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|dependency| dependency.name() == text).ok_or_else(|| {
            format!("`{text}` is no dependency; it is one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
