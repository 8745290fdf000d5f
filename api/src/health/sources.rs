//! What the checks ask.

use std::time::Duration;

use engine::Engine;
use sqlx::PgPool;

use super::mail::MailProbe;
use crate::load::PoolGate;

/// The sources of the checks.
pub(crate) struct HealthSources {
    pub(crate) engine: Engine,
    pub(crate) pool: PgPool,
    pub(crate) gate: PoolGate,
    pub(crate) mail: MailProbe,
    /// How long each part may take to answer.
    pub(crate) timeout: Duration,
}
