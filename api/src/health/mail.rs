//! The state of the mail server, as this process knows it.

use std::sync::Arc;

/// The state of the mail server, as its circuit breaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailState {
    /// The breaker is closed: mails are sent.
    Up,
    /// The breaker is half open: one mail at a time is tried.
    Probing,
    /// The breaker is open: mails wait, which costs them no attempt.
    Down,
}

/// Returns the [`MailState`] from memory; it must not block.
pub type MailProbe = Arc<dyn Fn() -> MailState + Send + Sync>;
