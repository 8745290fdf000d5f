//! How the way to the mail server is, as this process knows it.

use std::sync::Arc;

/// How the way to the mail server is, as its circuit breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// Mails go out (breaker closed).
    Up,
    /// It was down and is being tried again (breaker half open).
    Probing,
    /// It fails; mails wait and lose no attempt (breaker open).
    Down,
}

/// Gives the [`MailState`]; it has to answer at once, from memory.
pub type MailProbe = Arc<dyn Fn() -> MailState + Send + Sync>;
