//! Writes mails as files that people can read.

use std::{
    io,
    path::{Path, PathBuf},
};

use lettre::Message;
use tokio::task::spawn_blocking;

use super::{
    error::{MailError, MailerError, SmtpReply},
    message::Mail,
};

pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn new(directory: PathBuf) -> Result<Self, MailerError> {
        std::fs::create_dir_all(&directory)
            .map_err(|error| MailerError::Directory(directory.clone(), error))?;
        Ok(Self { directory })
    }

    /// Writes the file in one piece or not at all; the same mail again replaces its file.
    pub(crate) async fn send(&self, mail: &Mail, message: &Message) -> Result<SmtpReply, MailError> {
        let path = self.directory.join(file_name(mail));
        let written = {
            let (path, bytes) = (path.clone(), message.formatted());
            spawn_blocking(move || write_atomically(&path, &bytes)).await
        };
        written.map_err(io::Error::from).flatten().map_err(|error| MailError::Temporary {
            what: format!("the mail could not be written to `{}`", path.display()),
            source: Some(error.into()),
        })?;
        tracing::info!(mail.file = %path.display(), mail.message_id = %mail.message_id, "a mail was written");
        Ok(SmtpReply::new(250, &format!("written to {}", path.display())))
    }
}

/// The name of a mail's file, from its time, recipient and id: `20260131T120000.123Z_a@example.com_0190….eml`.
fn file_name(mail: &Mail) -> String {
    let plain = |text: &str, keep: &str, max: usize| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || keep.contains(*c)).take(max).collect()
    };
    let id = mail.message_id.split(['@', '.']).next().unwrap_or_default();
    format!(
        "{}_{}_{}.eml",
        mail.at.format("%Y%m%dT%H%M%S%.3fZ"),
        plain(&mail.to, "@.-_+", 80),
        plain(id, "-", 40)
    )
}

/// Does not sync to the disk: a killed process loses no file, and a crash of the machine loses only stand-ins for real
/// mails.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("eml.part");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        Mail {
            to: "../a@example.com".into(),
            subject: "s".into(),
            text: "text\n".into(),
            html: None,
            message_id: "<0190-1.send-mail@example.com>".into(),
            at: chrono::DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
        }
    }

    #[test]
    fn a_file_is_named_by_time_and_recipient_and_stays_in_its_directory() {
        assert_eq!(file_name(&mail()), "20231114T221320.123Z_..a@example.com_0190-1.eml");
    }

    #[tokio::test]
    async fn the_same_mail_twice_is_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path().join("mails")).unwrap();
        let from = "shop@example.com".parse().unwrap();
        let mail = Mail { to: "a@example.com".into(), ..mail() };
        let message = crate::mail::message::write_readable(&mail, &from).unwrap();
        for _ in 0..2 {
            files.send(&mail, &message).await.unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(directory.path().join("mails"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["20231114T221320.123Z_a@example.com_0190-1.eml"]);
    }
}
