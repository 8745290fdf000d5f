//! How the process and what it depends on are: checked part by part, cached for a second.

pub(crate) mod body;
mod cache;
mod checks;
mod mail;

pub use mail::{MailProbe, MailState};

pub(crate) use cache::HealthCache;
pub(crate) use checks::HealthSources;
