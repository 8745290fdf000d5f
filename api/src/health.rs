//! The health of the process and of its dependencies: checked part by part, cached for a second.

pub(crate) mod body;
mod cache;
mod checks;
mod database;
mod mail;
mod sources;

pub use mail::{MailProbe, MailState};

pub(crate) use cache::HealthCache;
pub(crate) use sources::HealthSources;
