//! The mailer: sends over SMTP, or writes files where there is no mail server, behind a circuit breaker.

use std::{path::PathBuf, sync::Arc, time::Duration};

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency, Permission};
use engine::{Allowance, ErrorChain, Throttle};
use lettre::message::Mailbox;

use super::{
    error::{MailError, MailerError, SmtpReply},
    files::Files,
    message::{self, Mail},
    smtp::{Smtp, SmtpSettings},
};
use crate::support::email;

/// Sends mail. Cheap to clone; all clones share the connections and the breaker.
#[derive(Clone)]
pub struct Mailer {
    inner: Arc<Inner>,
}

struct Inner {
    from: Mailbox,
    transport: Transport,
    breaker: Breaker,
    timeout: Duration,
}

enum Transport {
    Smtp(Smtp),
    Files(Files),
}

/// Longer than a mail takes, and shorter than the step's time-out of two minutes, so that the breaker learns of the
/// failure.
const TIMEOUT: Duration = Duration::from_secs(100);

impl Mailer {
    /// Sends through a mail server, over pooled connections. Must be called within a tokio runtime.
    ///
    /// The URL is `smtp://host:port` for plain text, `smtp://…?tls=required` for mandatory STARTTLS,
    /// `smtp://…?tls=opportunistic` for STARTTLS if the server offers it, and `smtps://…` for TLS from the first byte.
    /// `user:password@` before the host logs in; both are percent-encoded. A path is the client's name in the greeting.
    /// Anything else in the URL is an error.
    ///
    /// # Errors
    /// When the URL or the sender is malformed. This does not connect to the server.
    pub fn smtp(url: &str, from: &str) -> Result<Self, MailerError> {
        Self::smtp_with(url, from, &SmtpSettings::default())
    }

    /// As [`Mailer::smtp`], with settings that the URL can't express.
    ///
    /// # Errors
    /// As [`Mailer::smtp`].
    pub fn smtp_with(url: &str, from: &str, settings: &SmtpSettings) -> Result<Self, MailerError> {
        let smtp = Smtp::new(url, settings)?;
        let from = sender(from)?;
        for warning in smtp.warnings(&from) {
            tracing::warn!("{warning}");
        }
        Ok(Self::new(from, Transport::Smtp(smtp)))
    }

    /// Writes mails as `.eml` files into a directory, where there is no mail server.
    ///
    /// # Errors
    /// When the directory can't be created, or the sender is malformed.
    pub fn files(directory: impl Into<PathBuf>, from: &str) -> Result<Self, MailerError> {
        Ok(Self::new(sender(from)?, Transport::Files(Files::new(directory.into())?)))
    }

    fn new(from: Mailbox, transport: Transport) -> Self {
        let breaker = Breaker::new(Dependency::Smtp, BreakerSettings::default());
        Self { inner: Arc::new(Inner { from, transport, breaker, timeout: TIMEOUT }) }
    }

    /// Sets the breaker of the mail server; must be called before the mailer is cloned.
    pub fn with_breaker(self, breaker: Breaker) -> Self {
        self.rebuilt(|inner| inner.breaker = breaker)
    }

    /// Sets how long one mail may take until it counts as failed; must be called before the mailer is cloned.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.rebuilt(|inner| inner.timeout = timeout)
    }

    fn rebuilt(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        } else {
            tracing::warn!("a mailer that is in use already keeps its settings");
        }
        self
    }

    /// The breaker's state, for health and metrics.
    pub fn state(&self) -> BreakerState {
        self.inner.breaker.state()
    }

    /// A throttle for the queue of mails. While the breaker is open, mails stay in the queue; claimed, each of them
    /// would only be snoozed again and again. When a probe is due, the throttle allows one mail.
    pub fn throttle(&self) -> Throttle {
        let breaker = self.inner.breaker.clone();
        Arc::new(move || match breaker.permission() {
            Permission::Allowed => Allowance::Unlimited,
            Permission::Probe => Allowance::Probe,
            Permission::Denied(wait) => Allowance::Blocked(wait),
        })
    }

    /// Where mails go: `smtp` or `files`.
    pub fn kind(&self) -> &'static str {
        match &self.inner.transport {
            Transport::Smtp(_) => "smtp",
            Transport::Files(_) => "files",
        }
    }

    /// The domain of the sender's address, in ASCII.
    pub(crate) fn sender_domain(&self) -> &str {
        self.inner.from.email.domain()
    }

    /// Sends one mail.
    ///
    /// # Errors
    /// See [`MailError`].
    ///
    /// # Cancel safety
    /// A dropped call may have sent the mail. The breaker counts it as a failure, and the connection is closed.
    pub async fn send(&self, mail: &Mail) -> Result<SmtpReply, MailError> {
        let answer = self.attempt(mail).await;
        let outcome = answer.as_ref().map_or_else(MailError::code, |_| "sent");
        metrics::counter!("sagaline_mails_total", "transport" => self.kind(), "outcome" => outcome)
            .increment(1);
        answer
    }

    async fn attempt(&self, mail: &Mail) -> Result<SmtpReply, MailError> {
        let inner = &*self.inner;
        // Before the breaker: a message that can't be written says nothing about the server.
        let message = match &inner.transport {
            Transport::Smtp(_) => message::write(mail, &inner.from)?,
            Transport::Files(_) => message::write_readable(mail, &inner.from)?,
        };
        let admitted = inner.breaker.try_acquire();
        let permit = admitted.map_err(|open| MailError::BreakerOpen { retry_after: open.retry_delay() })?;
        let answer = match &inner.transport {
            // Boxed because the exchange is a large future, and a worker has many steps at once, few of which get here.
            Transport::Smtp(smtp) => Box::pin(smtp.send(&message, inner.timeout)).await,
            Transport::Files(files) => files.send(mail, &message).await,
        };
        match answer {
            Err(error) if !error.concerns_one_mail() => {
                let is_probe = permit.is_probe();
                permit.failed();
                // Few: once the breaker is open, one for each probe.
                tracing::warn!(error = %ErrorChain(&error), "a mail could not be handed over");
                // The mail was chosen as the probe; the failure is not its own. But if its content was sent, it may
                // have arrived, and the attempt counts.
                Err(if is_probe && !error.is_after_content() { inner.probe_failed(error) } else { error })
            }
            // A server that rejects a single mail works.
            answer => {
                permit.succeeded();
                answer
            }
        }
    }
}

/// Parses the sender and writes its domain in ASCII. The local part has to be ASCII, because every mail contains it.
fn sender(from: &str) -> Result<Mailbox, MailerError> {
    let wrong = || MailerError::From(from.into());
    let Mailbox { name, email } = from.parse().map_err(|_| wrong())?;
    let email = email::with_ascii_domain(email).filter(|email| email.user().is_ascii()).ok_or_else(wrong)?;
    Ok(Mailbox { name, email })
}

impl Inner {
    fn probe_failed(&self, error: MailError) -> MailError {
        MailError::ProbeFailed {
            retry_after: self.breaker.open_error().retry_delay(),
            failure: Box::new(error),
        }
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the transport, which contains the password.
        f.debug_struct("Mailer")
            .field("kind", &self.kind())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_to_be_an_address_that_every_server_can_read() {
        let written = |from: &str| sender(from).map(|from| from.to_string());
        assert_eq!(written("Shop <shop@bücher.de>").unwrap(), "Shop <shop@xn--bcher-kva.de>");
        for wrong in ["shop", "jörg@example.com", "Shop <>"] {
            assert!(matches!(written(wrong), Err(MailerError::From(_))), "{wrong}");
        }
    }
}
