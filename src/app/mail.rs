//! The target of mails: a mail server, or files.

use std::path::{Path, PathBuf};

use breakers::{Breakers, Dependency};
use shop::{
    mail::{Mailer, MailerError},
    notifications::SEND_MAIL,
    sagas::deliver_notification::SEND_MAIL_RETRY,
};

use crate::{
    config::{Config, SecretUrl},
    exit_error::ExitError,
};

/// The target of mails.
#[derive(Clone, Debug)]
pub(crate) enum MailTarget {
    /// The mail server at this URL.
    Server(SecretUrl),
    /// Files that a person can open.
    Files(PathBuf),
}

impl MailTarget {
    /// The mail server of the configuration, if there is one, else files in `dir`.
    pub(crate) fn server_or_files(config: &Config, dir: &Path) -> Self {
        match &config.mail.smtp_url {
            Some(url) => Self::Server(url.clone()),
            None => Self::Files(dir.to_owned()),
        }
    }

    /// Builds the mailer.
    ///
    /// # Errors
    /// [`ExitError::Unusable`] when the server's URL or the sender can't be used, or the files' directory can't be
    /// made.
    pub(crate) fn mailer(&self, config: &Config, breakers: &Breakers) -> Result<Mailer, ExitError> {
        let from = &config.mail.from;
        let mailer = match self {
            Self::Server(url) => Mailer::smtp_with(url.expose(), from, &config.mail.smtp_settings()),
            Self::Files(dir) => Mailer::files(dir, from),
        };
        let mailer = mailer.map_err(|error| unusable(&error))?;
        // This is shorter than the time-out of an attempt, so that the breaker counts a silent server as a failure.
        let attempt = config.retries.timeout(SEND_MAIL, SEND_MAIL_RETRY);
        Ok(mailer.with_breaker(breakers.of(Dependency::Smtp)).with_timeout(attempt.mul_f64(0.9)))
    }
}

fn unusable(error: &MailerError) -> ExitError {
    let variable = match error {
        MailerError::From(_) => "MAIL_FROM",
        MailerError::Url(_) => "SMTP_URL",
        MailerError::Directory(..) => "SAGALINE_STATE_DIR",
    };
    ExitError::Unusable(format!("{variable} can't be used: {error}"))
}
