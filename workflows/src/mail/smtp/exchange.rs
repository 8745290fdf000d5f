//! The SMTP exchange for one mail (RFC 5321), and the meaning of the server's replies.

use std::{future::Future, time::Duration};

use lettre::{
    address::Envelope,
    transport::smtp::{
        commands::{Data, Mail, Rcpt, Rset},
        extension::{Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::time::Instant;

use super::{
    connection::{Connection, ConnectionError},
    reply::Expects,
    settings::SmtpSettings,
};
use crate::mail::error::{MailError, SmtpReply, SmtpStage};

/// The time limits of one mail and of each reply.
pub(super) struct Timeouts {
    deadline: Instant,
    open: Duration,
    reply: Duration,
}

impl Timeouts {
    pub(super) fn new(settings: &SmtpSettings, timeout: Duration) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            open: settings.connect_timeout + settings.reply_timeout,
            reply: settings.reply_timeout,
        }
    }

    /// Limits the time for opening a connection.
    pub(super) async fn opening<T>(
        &self,
        call: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, MailError> {
        self.bound(SmtpStage::Connect, call).await
    }

    async fn bound<T>(
        &self,
        stage: SmtpStage,
        call: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, MailError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let limit = match stage {
            SmtpStage::Connect => self.open.min(left),
            SmtpStage::Mail | SmtpStage::Rcpt | SmtpStage::Data => self.reply.min(left),
            SmtpStage::Content => left,
        };
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| failure(stage, error)),
            Err(_) => Err(late(stage, limit)),
        }
    }
}

/// Names the sender and the SMTP extensions that the mail needs.
pub(super) async fn mail_from(
    connection: &mut Connection,
    envelope: &Envelope,
    content: &[u8],
    timeouts: &Timeouts,
) -> Result<(), MailError> {
    let mut parameters = Vec::new();
    if envelope.from().into_iter().chain(envelope.to()).any(|address| !(address.as_ref() as &str).is_ascii())
    {
        needs(connection, Extension::SmtpUtfEight, "for an address with other letters than ASCII")?;
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !content.is_ascii() {
        needs(connection, Extension::EightBitMime, "for headers with other letters than ASCII")?;
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let mail = Mail::new(envelope.from().cloned(), parameters);
    timeouts.bound(SmtpStage::Mail, connection.command(mail, Expects::Completion)).await.map(drop)
}

/// Fails for good if the server lacks an extension that the mail needs. The server itself works.
fn needs(connection: &Connection, extension: Extension, what_for: &str) -> Result<(), MailError> {
    if connection.offers(extension) {
        return Ok(());
    }
    let source = format!("the mail server does not have {extension}, which is needed {what_for}");
    Err(MailError::Unsendable { source: source.into() })
}

/// Names the recipients and sends the content.
pub(super) async fn rcpt_and_data(
    connection: &mut Connection,
    envelope: &Envelope,
    content: &[u8],
    timeouts: &Timeouts,
) -> Result<SmtpReply, MailError> {
    for recipient in envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        timeouts.bound(SmtpStage::Rcpt, connection.command(recipient, Expects::Completion)).await?;
    }
    timeouts.bound(SmtpStage::Data, connection.command(Data, Expects::GoAhead)).await?;
    let taken = timeouts.bound(SmtpStage::Content, connection.content(content)).await?;
    Ok(taken.shown())
}

/// Aborts a mail that was rejected; returns whether the connection can be used for another mail.
pub(super) async fn reset(connection: &mut Connection, timeouts: &Timeouts) -> bool {
    timeouts.bound(SmtpStage::Rcpt, connection.command(Rset, Expects::Completion)).await.is_ok()
}

/// Whether a negative reply concerns all our mails rather than one. That holds for every reply before the first
/// recipient, and later for the codes that say that the service shuts down (421), accepts no mail at all (521), or
/// needs another log-in or encryption (RFC 4954, section 6). Before the content it also holds for an enhanced status
/// 4.3.x: the server's system is in trouble (RFC 3463, section 3.4). Once it has the content, the trouble may be with
/// that.
fn concerns_all_mails(stage: SmtpStage, reply: &SmtpReply) -> bool {
    let is_about_service = matches!(reply.code, 421 | 454 | 521 | 530 | 534 | 535 | 538);
    match stage {
        SmtpStage::Connect | SmtpStage::Mail => true,
        SmtpStage::Rcpt | SmtpStage::Data => is_about_service || reply.text.starts_with("4.3."),
        SmtpStage::Content => is_about_service,
    }
}

fn failure(stage: SmtpStage, error: ConnectionError) -> MailError {
    match (stage, error) {
        (stage, ConnectionError::Refused(reply)) if concerns_all_mails(stage, &reply) => {
            MailError::ServerRejects { stage, reply }
        }
        (stage, ConnectionError::Refused(reply)) if reply.code >= 500 => {
            MailError::RecipientRejected { stage, reply }
        }
        (stage, ConnectionError::Refused(reply)) => MailError::RecipientDeferred { stage, reply },
        (SmtpStage::Connect, error) => MailError::Temporary {
            what: "the mail server can't be reached".into(),
            source: Some(error.into()),
        },
        (SmtpStage::Mail | SmtpStage::Rcpt | SmtpStage::Data, error) => MailError::Temporary {
            what: "the mail could not be handed to the server".into(),
            source: Some(error.into()),
        },
        (SmtpStage::Content, error) => MailError::Unconfirmed {
            what: "the mail server did not confirm the mail; it may have taken it".into(),
            source: Some(error.into()),
        },
    }
}

fn late(stage: SmtpStage, limit: Duration) -> MailError {
    let limit_ms = limit.as_millis();
    match stage {
        SmtpStage::Connect | SmtpStage::Mail | SmtpStage::Rcpt | SmtpStage::Data => MailError::Temporary {
            what: format!("the mail server gave no answer within {limit_ms} ms"),
            source: None,
        },
        SmtpStage::Content => MailError::Unconfirmed {
            what: format!(
                "the mail server did not confirm the mail within {limit_ms} ms; it may have taken it"
            ),
            source: None,
        },
    }
}
