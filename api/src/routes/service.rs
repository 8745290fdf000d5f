//! The services that a process can offer.

use std::{fmt, str::FromStr};

/// One service; a process offers one, several, or all on one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Orders: placing, reading, moving along, cancelling.
    Orders,
    /// Products and their stock.
    Inventory,
    /// Notifications and their deliveries.
    Notifications,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Inventory, Self::Notifications];

    /// The name as it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Notifications => "notifications",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|service| service.name() == text).ok_or_else(|| {
            format!("`{text}` is no service; it is one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}
