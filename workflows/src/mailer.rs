//! Sends mail: over SMTP, or into files where there is no mail server. A circuit breaker stands before both.

mod files;
mod message;
mod smtp;

use std::{path::PathBuf, sync::Arc, time::Duration};

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use chrono::{DateTime, Utc};
use lettre::message::Mailbox;

pub use smtp::SmtpSettings;

use self::{files::Files, smtp::Smtp};

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The recipient's address.
    pub to: String,
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same as HTML, if there is one.
    pub html: Option<String>,
    /// With its angle brackets; the same in every attempt, so that a mail that arrives twice is known as one.
    pub message_id: String,
    /// When it was written; its date.
    pub at: DateTime<Utc>,
}

/// What the mail server said when it took a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpReply {
    /// The reply's code, such as 250.
    pub code: u16,
    /// The reply's text, in one line.
    pub text: String,
}

impl SmtpReply {
    /// Keeps what can be stored and shown: one line without control characters, of a length that a reply has.
    pub(crate) fn new(code: u16, text: &str) -> Self {
        const LONGEST: usize = 512;
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
        Self { code, text }
    }
}

impl std::fmt::Display for SmtpReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// What stands before a server's reply in an error, and so in the history of a saga.
const TURNED_AWAY: &str = "the mail server did not take the mail for now: ";
const REFUSED: &str = "the mail server refused the mail: ";
/// What stands behind it.
const REFUSED_CODE: &str = " (mail-refused)";

/// Finds what the server said in an error that was stored, outermost first; a failure has its code behind it.
pub(crate) fn reply_in(error: &[String]) -> Option<&str> {
    error.iter().find_map(|line| {
        line.strip_prefix(TURNED_AWAY).or_else(|| {
            line.strip_prefix(REFUSED).map(|reply| reply.strip_suffix(REFUSED_CODE).unwrap_or(reply))
        })
    })
}

/// A mail was not sent, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The mail server has failed lately; nothing was attempted.
    #[error("the mail server has failed too often; waiting before the next try")]
    BreakerOpen {
        /// When to ask again; spread, so that not all who wait come in the moment of the next probe.
        retry_after: Duration,
    },
    /// The mail server has failed lately, and this mail was the one to find out that it still does; it does not count as
    /// an attempt of the mail.
    #[error("the mail server still fails: {what}")]
    ProbeFailed {
        /// When to ask again; spread.
        retry_after: Duration,
        /// What did not work, in one sentence.
        what: String,
    },
    /// It did not work this time: the server is away, slow or busy.
    #[error("{what}")]
    Temporary {
        /// What did not work.
        what: String,
        /// Why, if something else told.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server does not take this mail now, but perhaps later.
    #[error("{TURNED_AWAY}{reply}")]
    TurnedAway {
        /// What it said.
        reply: SmtpReply,
    },
    /// The server does not want this mail, and will not later.
    #[error("{REFUSED}{reply}")]
    Refused {
        /// What it said.
        reply: SmtpReply,
    },
    /// It can't be written as a mail: an address or a header is wrong.
    #[error("it can't be written as a mail")]
    Unsendable {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MailError {
    /// Whether the same mail may be taken later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BreakerOpen { .. }
            | Self::ProbeFailed { .. }
            | Self::Temporary { .. }
            | Self::TurnedAway { .. } => true,
            Self::Refused { .. } | Self::Unsendable { .. } => false,
        }
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BreakerOpen { .. } => "mail-breaker-open",
            Self::ProbeFailed { .. } => "mail-probe-failed",
            Self::Temporary { .. } => "mail-server-unavailable",
            Self::TurnedAway { .. } => "mail-turned-away",
            Self::Refused { .. } => "mail-refused",
            Self::Unsendable { .. } => "mail-unsendable",
        }
    }

    /// The error with its causes in one sentence.
    pub fn sentence(&self) -> String {
        let first: &(dyn std::error::Error + 'static) = self;
        let chain: Vec<String> =
            std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string).collect();
        chain.join(": ")
    }
}

/// A mailer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The sender's address is wrong.
    #[error("`{0}` is no sender, such as `Shop <shop@example.com>`")]
    From(String),
    /// The server's URL is wrong. It is not repeated, because it may hold a password.
    #[error("the SMTP URL is wrong (as in `smtp://host:25` or `smtps://user:password@host`): {0}")]
    Url(String),
    /// The directory for mail files can't be made.
    #[error("the directory `{0}` for mails can't be made")]
    Directory(PathBuf, #[source] std::io::Error),
}

/// Sends mail. Cheap to clone; all clones share connections and breaker.
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

/// Longer than a mail takes, shorter than the 30 seconds of a step's attempt, so that the breaker hears of it.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Mailer {
    /// Sends through a mail server, over connections that are kept; must be called within a tokio runtime.
    ///
    /// The URL is `smtp://host:port` for plain text, `smtp://…?tls=required` for STARTTLS or nothing,
    /// `smtp://…?tls=opportunistic` for STARTTLS where the server has it, and `smtps://…` for TLS from the first byte.
    /// `user:password@` before the host logs in, both percent-encoded. A path is the name to greet with.
    ///
    /// # Errors
    /// When the URL or the sender is wrong. The server is not asked yet.
    pub fn smtp(url: &str, from: &str) -> Result<Self, MailerError> {
        Self::smtp_with(url, from, &SmtpSettings::default())
    }

    /// As [`Mailer::smtp`], with settings that a URL does not have.
    ///
    /// # Errors
    /// As [`Mailer::smtp`].
    pub fn smtp_with(url: &str, from: &str, settings: &SmtpSettings) -> Result<Self, MailerError> {
        Self::new(from, Transport::Smtp(Smtp::new(url, settings)?))
    }

    /// Writes mails as files, `.eml`, into a directory; for where there is no mail server.
    ///
    /// # Errors
    /// When the directory can't be made, or the sender is wrong.
    pub fn files(directory: impl Into<PathBuf>, from: &str) -> Result<Self, MailerError> {
        Self::new(from, Transport::Files(Files::new(directory.into())?))
    }

    fn new(from: &str, transport: Transport) -> Result<Self, MailerError> {
        let from = from.parse().map_err(|_| MailerError::From(from.into()))?;
        let breaker = Breaker::new(Dependency::Smtp, BreakerSettings::default());
        Ok(Self { inner: Arc::new(Inner { from, transport, breaker, timeout: TIMEOUT }) })
    }

    /// Sets the breaker that stands before the mail server; to be called before the mailer is cloned.
    pub fn with_breaker(self, breaker: Breaker) -> Self {
        self.rebuilt(|inner| inner.breaker = breaker)
    }

    /// Sets how long one mail may take before it counts as failed; to be called before the mailer is cloned.
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

    /// Where mails go: `smtp` or `files`.
    pub fn kind(&self) -> &'static str {
        match &self.inner.transport {
            Transport::Smtp(_) => "smtp",
            Transport::Files(_) => "files",
        }
    }

    /// Sends one mail.
    ///
    /// # Errors
    /// See [`MailError`].
    ///
    /// # Cancel safety
    /// Dropped early, the mail may have been sent; the breaker counts it as a failure, and the connection is not used
    /// again.
    pub async fn send(&self, mail: &Mail) -> Result<SmtpReply, MailError> {
        let inner = &*self.inner;
        let admitted = inner.breaker.admit();
        let pass = admitted.map_err(|open| MailError::BreakerOpen { retry_after: open.wait() })?;
        let answer = match &inner.transport {
            Transport::Smtp(smtp) => match message::write(mail, &inner.from) {
                Ok(message) => smtp.send(&message, inner.timeout).await,
                Err(error) => Err(error),
            },
            Transport::Files(files) => files.send(mail, &inner.from).await,
        };
        let answer = match answer {
            Err(error) if error.is_retryable() => {
                // A server that answers turns this mail away, and that is an attempt of the mail.
                let is_blameless = pass.is_probe() && matches!(error, MailError::Temporary { .. });
                pass.failed();
                Err(if is_blameless { inner.probe_failed(&error) } else { error })
            }
            // A server that says no to one mail is well.
            answer => {
                pass.succeeded();
                answer
            }
        };
        let outcome = answer.as_ref().map_or_else(MailError::code, |_| "sent");
        metrics::counter!("sagaline_mails_total", "transport" => self.kind(), "outcome" => outcome)
            .increment(1);
        answer
    }
}

impl Inner {
    fn probe_failed(&self, error: &MailError) -> MailError {
        MailError::ProbeFailed { retry_after: self.breaker.held_back().wait(), what: error.sentence() }
    }
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the transport: it holds the password.
        f.debug_struct("Mailer")
            .field("kind", &self.kind())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
