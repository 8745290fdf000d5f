//! The services that a process can offer.

use strum::{VariantArray, VariantNames};

/// One service; a process offers one, several, or all on one port.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
    VariantNames,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_service)]
pub enum Service {
    /// Orders: placing, reading, changing the status, cancelling.
    Orders,
    /// Products and their stock.
    Inventory,
    /// Notifications and their deliveries.
    Notifications,
}

impl Service {
    /// All services, in the order of their declaration.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_service(text: &str) -> String {
    format!("`{text}` is no service; it is one of {}", <Service as VariantNames>::VARIANTS.join(", "))
}
