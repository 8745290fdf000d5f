//! How connections to the mail server are made and kept.

use std::time::Duration;

/// How connections to the mail server are made and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// How many connections are kept open for the next mails.
    pub max_idle_connections: u32,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long each answer may take, from the greeting to the leave to send the content; the answer to that is bounded
    /// only by the time that a mail may take, because a mail that is given up then may have been taken.
    pub reply_timeout: Duration,
    /// How long a connection is kept that is not used.
    pub idle_timeout: Duration,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self {
            max_idle_connections: 16,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
        }
    }
}
