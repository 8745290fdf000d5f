//! Sends mail through a server, over pooled connections.
//!
//! This module leads the SMTP exchange itself, command by command, for two reasons. First, the meaning of a reply
//! depends on its stage: a rejection of the greeting or the sender concerns all our mails, a rejection of the recipient
//! or the content concerns one mail. Second, a connection that was left in the middle of a mail would give the replies
//! for that mail to the next one, which could then pass for sent. So a connection returns to the pool only after a
//! complete exchange.

mod connection;
mod exchange;
mod pool;
mod reply;
mod server;
mod settings;

pub use settings::SmtpSettings;

use std::{sync::Arc, time::Duration};

use lettre::{Message, address::Envelope, message::Mailbox};

use self::{connection::Connection, exchange::Timeouts, pool::ConnectionPool, server::Server};
use super::error::{MailError, MailerError, SmtpReply};

pub(crate) struct Smtp {
    server: Server,
    settings: SmtpSettings,
    pool: Arc<ConnectionPool>,
}

impl Smtp {
    pub(crate) fn new(url: &str, settings: &SmtpSettings) -> Result<Self, MailerError> {
        let pool = Arc::new(ConnectionPool::new(settings.max_idle_connections, settings.idle_timeout));
        Ok(Self { server: Server::parse(url).map_err(MailerError::Url)?, settings: *settings, pool })
    }

    /// Warnings for the operator about insecure or useless settings.
    pub(crate) fn warnings(&self, from: &Mailbox) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.server.may_log_in_in_the_clear() {
            warnings.push(
                "SMTP_URL has a password that may be sent in the clear: ask for `?tls=required` or use `smtps://`",
            );
        }
        if !self.server.is_on_this_machine() && from.email.domain() == "localhost" {
            warnings
                .push("MAIL_FROM is an address of `localhost`: mail servers elsewhere refuse such a sender");
        }
        warnings
    }

    pub(crate) async fn send(&self, message: &Message, timeout: Duration) -> Result<SmtpReply, MailError> {
        let timeouts = Timeouts::new(&self.settings, timeout);
        let (envelope, bytes) = (message.envelope(), message.formatted());
        let mut connection = self.ready(envelope, &bytes, &timeouts).await?;
        let answer = exchange::rcpt_and_data(&mut connection, envelope, &bytes, &timeouts).await;
        let is_in_step = match &answer {
            Ok(_) => true,
            Err(error) => error.concerns_one_mail() && exchange::reset(&mut connection, &timeouts).await,
        };
        if is_in_step {
            ConnectionPool::put(&self.pool, connection);
        }
        answer
    }

    /// A connection on which the server has accepted the sender of this mail.
    async fn ready(
        &self,
        envelope: &Envelope,
        bytes: &[u8],
        timeouts: &Timeouts,
    ) -> Result<Connection, MailError> {
        if let Some(mut pooled) = self.pool.take() {
            match exchange::mail_from(&mut pooled, envelope, bytes, timeouts).await {
                Ok(()) => return Ok(pooled),
                // The server may have closed this connection and the others while they were idle. No mail has been
                // handed over yet.
                Err(error) if error.concerns_one_mail() => return Err(error),
                Err(_) => self.pool.clear(),
            }
        }
        let mut fresh = timeouts.opening(self.server.connect(&self.settings)).await?;
        exchange::mail_from(&mut fresh, envelope, bytes, timeouts).await?;
        Ok(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(url: &str, from: &str) -> usize {
        Smtp::new(url, &SmtpSettings::default()).unwrap().warnings(&from.parse().unwrap()).len()
    }

    #[test]
    fn unencrypted_passwords_and_local_senders_cause_warnings_unless_the_server_is_local() {
        assert_eq!(warnings("smtp://user:pw@mail.example.com", "shop@localhost"), 2);
        assert_eq!(warnings("smtp://user:pw@mail.example.com?tls=opportunistic", "shop@example.com"), 1);
        for safe in [
            "smtp://user:pw@mail.example.com?tls=required",
            "smtps://user:pw@mail.example.com",
            "smtp://mail.example.com",
        ] {
            assert_eq!(warnings(safe, "shop@example.com"), 0, "{safe}");
        }
        for here in ["smtp://user:pw@localhost", "smtp://user:pw@127.0.0.1:25", "smtp://user:pw@[::1]"] {
            assert_eq!(warnings(here, "shop@localhost"), 0, "{here}");
        }
    }
}
