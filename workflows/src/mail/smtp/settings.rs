//! How the mailer connects to the mail server.

use std::time::Duration;

/// How the mailer connects to the mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// The most idle connections in the pool.
    pub max_idle_connections: u32,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long each reply may take, up to the one that allows the content. The reply to the content is limited only by
    /// the time for the whole mail, because a mail that is given up there may have been accepted.
    pub reply_timeout: Duration,
    /// How long a connection may be idle before it is closed.
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
