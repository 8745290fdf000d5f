//! How the process and what it depends on are: checked part by part, cached for a second.

pub(crate) mod body;
mod cache;
mod checks;

pub(crate) use cache::HealthCache;
