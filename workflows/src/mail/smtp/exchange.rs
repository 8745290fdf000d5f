//! The SMTP exchange for one mail (RFC 5321), and the meaning of the server's replies.

use std::{future::Future, time::Duration};

use lettre::{
    address::Envelope,
    transport::smtp::{
        Error,
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset},
        extension::{Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use tokio::time::Instant;

use super::settings::SmtpSettings;
use crate::mail::error::{MailError, SmtpReply, SmtpStage};

/// The time limits of one mail and of each reply.
pub(crate) struct Timeouts {
    deadline: Instant,
    open: Duration,
    reply: Duration,
}

impl Timeouts {
    pub(crate) fn new(settings: &SmtpSettings, timeout: Duration) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            open: settings.connect_timeout + settings.reply_timeout,
            reply: settings.reply_timeout,
        }
    }

    /// Limits the time for opening a connection.
    pub(crate) async fn opening<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, MailError> {
        self.bound(SmtpStage::Connect, call).await
    }

    async fn bound<T>(
        &self,
        stage: SmtpStage,
        call: impl Future<Output = Result<T, Error>>,
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
pub(crate) async fn mail_from(
    connection: &mut AsyncSmtpConnection,
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
    timeouts.bound(SmtpStage::Mail, connection.command(mail)).await.map(drop)
}

/// Fails for good if the server lacks an extension that the mail needs. The server itself works.
fn needs(connection: &AsyncSmtpConnection, extension: Extension, what_for: &str) -> Result<(), MailError> {
    if connection.server_info().supports_feature(extension) {
        return Ok(());
    }
    let source = format!("the mail server does not have {extension}, which is needed {what_for}");
    Err(MailError::Unsendable { source: source.into() })
}

/// Names the recipients and sends the content.
pub(crate) async fn rcpt_and_data(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    content: &[u8],
    timeouts: &Timeouts,
) -> Result<SmtpReply, MailError> {
    for recipient in envelope.to() {
        let recipient = Rcpt::new(recipient.clone(), Vec::new());
        timeouts.bound(SmtpStage::Rcpt, connection.command(recipient)).await?;
    }
    timeouts.bound(SmtpStage::Data, connection.command(Data)).await?;
    let taken = timeouts.bound(SmtpStage::Content, connection.message(content)).await?;
    Ok(reply(&taken))
}

/// Aborts a mail that was rejected; returns whether the connection can be used for another mail.
pub(crate) async fn reset(connection: &mut AsyncSmtpConnection, timeouts: &Timeouts) -> bool {
    timeouts.bound(SmtpStage::Rcpt, connection.command(Rset)).await.is_ok()
}

fn reply(response: &Response) -> SmtpReply {
    let lines: Vec<&str> = response.message().collect();
    SmtpReply::new(response.code().into(), &lines.join(" "))
}

/// Whether a negative reply concerns all our mails rather than one. That holds for every reply before the first
/// recipient, and later for the codes that say that the service shuts down (421), accepts no mail at all (521), or
/// needs another log-in or encryption (RFC 4954, section 6).
fn concerns_all_mails(stage: SmtpStage, code: u16) -> bool {
    match stage {
        SmtpStage::Connect | SmtpStage::Mail => true,
        SmtpStage::Rcpt | SmtpStage::Data | SmtpStage::Content => {
            matches!(code, 421 | 454 | 521 | 530 | 534 | 535 | 538)
        }
    }
}

fn failure(stage: SmtpStage, error: Error) -> MailError {
    let Some(code) = error.status().map(u16::from) else {
        let what = match stage {
            SmtpStage::Connect => "the mail server can't be reached",
            SmtpStage::Mail | SmtpStage::Rcpt | SmtpStage::Data => {
                "the mail could not be handed to the server"
            }
            SmtpStage::Content => "the mail server did not confirm the mail; it may have taken it",
        };
        return MailError::Temporary { what: what.into(), source: Some(error.into()) };
    };
    let said = std::error::Error::source(&error).map(ToString::to_string);
    let reply = SmtpReply::new(code, &said.unwrap_or_default());
    if concerns_all_mails(stage, code) {
        MailError::ServerRejects { stage, reply }
    } else if error.is_permanent() {
        MailError::RecipientRejected { stage, reply }
    } else {
        MailError::RecipientDeferred { stage, reply }
    }
}

fn late(stage: SmtpStage, limit: Duration) -> MailError {
    let limit_ms = limit.as_millis();
    let what = match stage {
        SmtpStage::Connect | SmtpStage::Mail | SmtpStage::Rcpt | SmtpStage::Data => {
            format!("the mail server gave no answer within {limit_ms} ms")
        }
        SmtpStage::Content => {
            format!("the mail server did not confirm the mail within {limit_ms} ms; it may have taken it")
        }
    };
    MailError::Temporary { what, source: None }
}
