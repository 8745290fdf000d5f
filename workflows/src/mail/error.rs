//! What became of a mail that was not sent, and what the mail server said: in the words that are stored with the saga, from
//! which the reply is read again.

use std::{path::PathBuf, time::Duration};

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
const SERVER_REJECTS: &str = "the mail server takes none of our mails: ";
const RECIPIENT_DEFERRED: &str = "the mail server did not take the mail for now: ";
const RECIPIENT_REJECTED: &str = "the mail server refused the mail: ";
/// What stands behind it.
const RECIPIENT_REJECTED_CODE: &str = " (mail-refused)";
/// What stands before the error of a mail that was the one to try.
const STILL_FAILS: &str = "the mail server still fails: ";

/// Finds what the server said in an error that was stored, outermost first; a failure has its code behind it.
pub(crate) fn reply_in(error: &[String]) -> Option<&str> {
    error.iter().find_map(|line| {
        let line = line.strip_prefix(STILL_FAILS).unwrap_or(line);
        line.strip_prefix(SERVER_REJECTS).or_else(|| line.strip_prefix(RECIPIENT_DEFERRED)).or_else(|| {
            line.strip_prefix(RECIPIENT_REJECTED)
                .map(|reply| reply.strip_suffix(RECIPIENT_REJECTED_CODE).unwrap_or(reply))
        })
    })
}

/// Whether an error that was stored says that nothing was attempted.
pub(crate) fn was_held_back(error: &[String]) -> bool {
    error.first().is_some_and(|line| line == HELD_BACK)
}

/// The whole error of a mail that was held back.
const HELD_BACK: &str = "the mail server has failed too often; waiting before the next try";

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

/// A mail was not sent, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The mail server has failed lately; nothing was attempted.
    #[error("{HELD_BACK}")]
    BreakerOpen {
        /// When to ask again; spread, so that not all who wait come in the moment of the next probe.
        retry_after: Duration,
    },
    /// The mail server has failed lately, and this mail was the one to find out that it still does; it does not count as
    /// an attempt of the mail.
    #[error("{STILL_FAILS}{what}")]
    ProbeFailed {
        /// When to ask again; spread.
        retry_after: Duration,
        /// What did not work, in one sentence.
        what: String,
    },
    /// The server takes no mail now, whichever it is: it goes down, has too many connections, does not take our log-in,
    /// our address or our sender.
    #[error("{SERVER_REJECTS}{reply}")]
    ServerRejects {
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
    #[error("{RECIPIENT_DEFERRED}{reply}")]
    RecipientDeferred {
        /// What it said.
        reply: SmtpReply,
    },
    /// The server does not want this mail, and will not later.
    #[error("{RECIPIENT_REJECTED}{reply}")]
    RecipientRejected {
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
            Self::BreakerOpen { .. } => "mail-breaker-open",
            Self::ProbeFailed { .. } => "mail-probe-failed",
            Self::ServerRejects { .. } => "mail-server-takes-none",
            Self::Temporary { .. } => "mail-server-unavailable",
            Self::RecipientDeferred { .. } => "mail-turned-away",
            Self::RecipientRejected { .. } => "mail-refused",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_found_in_whatever_error_it_stands() {
        let reply = || SmtpReply::new(535, "no");
        let probe =
            |error: MailError| MailError::ProbeFailed { retry_after: Duration::ZERO, what: error.sentence() };
        let stored = |error: &MailError| vec![error.to_string()];
        for error in [
            MailError::ServerRejects { reply: reply() },
            MailError::RecipientDeferred { reply: reply() },
            MailError::RecipientRejected { reply: reply() },
            probe(MailError::ServerRejects { reply: reply() }),
        ] {
            assert_eq!(reply_in(&stored(&error)), Some("535 no"), "{error}");
            assert!(!was_held_back(&stored(&error)));
        }
        assert!(was_held_back(&stored(&MailError::BreakerOpen { retry_after: Duration::ZERO })));
    }
}
