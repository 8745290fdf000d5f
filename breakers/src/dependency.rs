//! The external services that the system calls.

use strum::VariantArray;

/// An external service with its own circuit breaker.
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
    strum::IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub enum Dependency {
    /// The mail server.
    Smtp,
    /// Redis, in each of its uses.
    Redis,
    /// The AMQP broker that events are published to.
    Amqp,
}

impl Dependency {
    /// All dependencies, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name that is stored and shown: `smtp`, `redis` or `amqp`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
