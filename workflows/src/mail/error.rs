//! Why a mail was not sent, and what the mail server replied.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// A reply of the mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmtpReply {
    /// The reply's code, such as 250.
    pub code: u16,
    /// The reply's text, in one line.
    pub text: String,
}

impl SmtpReply {
    /// Makes a reply that can be stored and shown: one line without control characters, of bounded length.
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

/// The stage of the SMTP exchange to which a reply belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpStage {
    /// The connection: greeting, encryption, log-in.
    Connect,
    /// `MAIL`, which names the sender.
    Mail,
    /// `RCPT`, which names the recipient.
    Rcpt,
    /// `DATA`, which asks to send the content.
    Data,
    /// The end of the content, with which the server takes the mail.
    Content,
}

/// A mailer could not be created.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The sender's address is malformed.
    #[error("`{0}` is no sender, such as `Shop <shop@example.com>` (before the `@` in ASCII)")]
    From(String),
    /// The server's URL is malformed. The error does not repeat it, because it may contain a password.
    #[error("the SMTP URL is wrong (as in `smtp://host:25` or `smtps://user:password@host`): {0}")]
    Url(String),
    /// The directory for mail files can't be created.
    #[error("the directory `{0}` for mails can't be made")]
    Directory(PathBuf, #[source] std::io::Error),
}

/// The code of a mail that was not attempted because the breaker was open.
pub(crate) const BREAKER_OPEN: &str = "mail-breaker-open";

/// A mail was not sent, or it is unknown whether it was.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The breaker is open, because the mail server failed recently; nothing was attempted.
    #[error("the mail server has failed too often; waiting before the next try")]
    BreakerOpen {
        /// When to try again; it varies at random, so that waiting mails don't all come when the next probe is due.
        retry_after: Duration,
    },
    /// This mail was the probe of a breaker that is not closed, and failed before its content was sent. It does not
    /// count as an attempt of the mail.
    #[error("the mail server still fails: {}", failure.sentence())]
    ProbeFailed {
        /// When to try again; it varies at random.
        retry_after: Duration,
        /// The probe's error.
        failure: Box<MailError>,
    },
    /// The server rejects all mails now: it shuts down, has too many connections, or rejects our log-in, address or
    /// sender.
    #[error("the mail server takes none of our mails: {reply}")]
    ServerRejects {
        /// The stage that it rejected.
        stage: SmtpStage,
        /// The server's reply.
        reply: SmtpReply,
    },
    /// A temporary failure: the server can't be reached, is slow or busy.
    #[error("{what}")]
    Temporary {
        /// What failed.
        what: String,
        /// The cause, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The content was sent, and the server did not say whether it took the mail: it may have, and then it arrives once
    /// more with the next attempt.
    #[error("{what}")]
    Unconfirmed {
        /// What failed.
        what: String,
        /// The cause, if there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The server rejects this mail now, but may accept it later.
    #[error("the mail server did not take the mail for now: {reply}")]
    RecipientDeferred {
        /// The stage that it rejected.
        stage: SmtpStage,
        /// The server's reply.
        reply: SmtpReply,
    },
    /// The server rejects this mail for good.
    #[error("the mail server refused the mail: {reply}")]
    RecipientRejected {
        /// The stage that it rejected.
        stage: SmtpStage,
        /// The server's reply.
        reply: SmtpReply,
    },
    /// No valid message can be written: an address or a header is malformed.
    #[error("it can't be written as a mail")]
    Unsendable {
        /// Why the message can't be written.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MailError {
    /// Whether the same mail may be accepted later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::BreakerOpen { .. }
            | Self::ProbeFailed { .. }
            | Self::ServerRejects { .. }
            | Self::Temporary { .. }
            | Self::Unconfirmed { .. }
            | Self::RecipientDeferred { .. } => true,
            Self::RecipientRejected { .. } | Self::Unsendable { .. } => false,
        }
    }

    /// Whether the error concerns this mail only, so that other mails may be accepted in the meantime.
    pub fn concerns_one_mail(&self) -> bool {
        match self {
            Self::RecipientDeferred { .. } | Self::RecipientRejected { .. } | Self::Unsendable { .. } => true,
            Self::BreakerOpen { .. }
            | Self::ProbeFailed { .. }
            | Self::ServerRejects { .. }
            | Self::Temporary { .. }
            | Self::Unconfirmed { .. } => false,
        }
    }

    /// Whether the content was sent, so that another attempt may deliver a second copy. Such an attempt always counts:
    /// otherwise a server that takes mails without saying so would get copies without end.
    pub(crate) fn is_after_content(&self) -> bool {
        match self {
            Self::Unconfirmed { .. } => true,
            Self::ServerRejects { stage, .. }
            | Self::RecipientDeferred { stage, .. }
            | Self::RecipientRejected { stage, .. } => *stage == SmtpStage::Content,
            Self::ProbeFailed { failure, .. } => failure.is_after_content(),
            Self::BreakerOpen { .. } | Self::Temporary { .. } | Self::Unsendable { .. } => false,
        }
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BreakerOpen { .. } => BREAKER_OPEN,
            Self::ProbeFailed { .. } => "mail-probe-failed",
            Self::ServerRejects { .. } => "mail-server-takes-none",
            Self::Temporary { .. } => "mail-server-unavailable",
            Self::Unconfirmed { .. } => "mail-unconfirmed",
            Self::RecipientDeferred { .. } => "mail-turned-away",
            Self::RecipientRejected { .. } => "mail-refused",
            Self::Unsendable { .. } => "mail-unsendable",
        }
    }

    /// The server's reply and its stage, if a reply is the error.
    pub fn reply(&self) -> Option<(SmtpStage, &SmtpReply)> {
        match self {
            Self::ServerRejects { stage, reply }
            | Self::RecipientDeferred { stage, reply }
            | Self::RecipientRejected { stage, reply } => Some((*stage, reply)),
            Self::ProbeFailed { failure, .. } => failure.reply(),
            Self::BreakerOpen { .. }
            | Self::Temporary { .. }
            | Self::Unconfirmed { .. }
            | Self::Unsendable { .. } => None,
        }
    }

    /// The error with its causes in one sentence.
    pub fn sentence(&self) -> String {
        engine::ErrorChain(self).to_string()
    }
}
