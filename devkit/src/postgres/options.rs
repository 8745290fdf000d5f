//! How to run the embedded PostgreSQL.

use super::{binaries::Search, error::EmbeddedError, state_dir::StateDir};

/// What survives a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Every commit: `fsync`, `synchronous_commit` and `full_page_writes` are on.
    Durable,
    /// Nothing, for tests: all three are off. Commits survive the end of processes only.
    Throwaway,
}

/// How to run the embedded PostgreSQL.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its data are kept.
    pub state_dir: StateDir,
    /// The durability of commits. An adopted server keeps the durability with which it was started.
    pub durability: Durability,
    /// Where its binaries may be; not used when the server already runs.
    pub search: Search,
}

impl Options {
    /// The defaults of `sagaline dev`: durable, and with the environment's settings.
    ///
    /// # Errors
    /// [`EmbeddedError::NoStateDir`] as [`StateDir::from_env`].
    pub fn from_env() -> Result<Self, EmbeddedError> {
        let state_dir = StateDir::from_env()?;
        Ok(Self { state_dir, durability: Durability::Durable, search: Search::from_env() })
    }
}
