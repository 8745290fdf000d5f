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

/// The part of the exchange with a mail server that a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpStage {
    /// Connecting, greeting, encrypting, logging in.
    Connect,
    /// `MAIL`: the sender.
    Mail,
    /// `RCPT`: the recipients.
    Rcpt,
    /// `DATA`: the leave to send the content.
    Data,
    /// The content, and the server's word for it.
    Content,
}

/// A mailer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// The sender's address is wrong.
    #[error("`{0}` is no sender, such as `Shop <shop@example.com>` (before the `@` in ASCII)")]
    From(String),
    /// The server's URL is wrong. It is not repeated, because it may hold a password.
    #[error("the SMTP URL is wrong (as in `smtp://host:25` or `smtps://user:password@host`): {0}")]
    Url(String),
    /// The directory for mail files can't be made.
    #[error("the directory `{0}` for mails can't be made")]
    Directory(PathBuf, #[source] std::io::Error),
}

/// The code of a mail that was held back.
pub(crate) const BREAKER_OPEN: &str = "mail-breaker-open";

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
    #[error("the mail server still fails: {}", failure.sentence())]
    ProbeFailed {
        /// When to ask again; spread.
        retry_after: Duration,
        /// What did not work.
        failure: Box<MailError>,
    },
    /// The server takes no mail now, whichever it is: it goes down, has too many connections, does not take our log-in,
    /// our address or our sender.
    #[error("the mail server takes none of our mails: {reply}")]
    ServerRejects {
        /// When it said so.
        stage: SmtpStage,
        /// What it said.
        reply: SmtpReply,
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
    #[error("the mail server did not take the mail for now: {reply}")]
    RecipientDeferred {
        /// When it said so.
        stage: SmtpStage,
        /// What it said.
        reply: SmtpReply,
    },
    /// The server does not want this mail, and will not later.
    #[error("the mail server refused the mail: {reply}")]
    RecipientRejected {
        /// When it said so.
        stage: SmtpStage,
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
            | Self::ServerRejects { .. }
            | Self::Temporary { .. }
            | Self::RecipientDeferred { .. } => true,
            Self::RecipientRejected { .. } | Self::Unsendable { .. } => false,
        }
    }

    /// Whether it is about this one mail: others may be taken meanwhile.
    pub fn concerns_one_mail(&self) -> bool {
        match self {
            Self::RecipientDeferred { .. } | Self::RecipientRejected { .. } | Self::Unsendable { .. } => true,
            Self::BreakerOpen { .. }
            | Self::ProbeFailed { .. }
            | Self::ServerRejects { .. }
            | Self::Temporary { .. } => false,
        }
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BreakerOpen { .. } => BREAKER_OPEN,
            Self::ProbeFailed { .. } => "mail-probe-failed",
            Self::ServerRejects { .. } => "mail-server-takes-none",
            Self::Temporary { .. } => "mail-server-unavailable",
            Self::RecipientDeferred { .. } => "mail-turned-away",
            Self::RecipientRejected { .. } => "mail-refused",
            Self::Unsendable { .. } => "mail-unsendable",
        }
    }

    /// What the server replied, and when, if a reply is the error.
    pub fn reply(&self) -> Option<(SmtpStage, &SmtpReply)> {
        match self {
            Self::ServerRejects { stage, reply }
            | Self::RecipientDeferred { stage, reply }
            | Self::RecipientRejected { stage, reply } => Some((*stage, reply)),
            Self::ProbeFailed { failure, .. } => failure.reply(),
            Self::BreakerOpen { .. } | Self::Temporary { .. } | Self::Unsendable { .. } => None,
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
