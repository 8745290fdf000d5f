//! One connection to the mail server: its commands and their replies.
//!
//! lettre connects, encrypts, and writes the commands. It reads replies as text, though, and takes one that is not
//! UTF-8, or has no text, for a broken connection; so this file reads them.

use std::{fmt::Display, io, time::Duration};

use lettre::transport::smtp::{
    Error,
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::TlsParameters,
    commands::{Auth, Ehlo, Quit, Starttls},
    extension::{ClientId, Extension, ServerInfo},
    response::{Category, Code, Detail, Response, Severity},
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use super::reply::{Expects, Reply, ReplyLine};
use crate::mail::error::SmtpReply;

#[expect(deprecated, reason = "lettre's TLS is to be had with its stream only (docs/decisions/0014)")]
type Stream = lettre::transport::smtp::client::AsyncNetworkStream;

/// How much of one line of a reply is kept; longer ones are cut.
const MAX_LINE_BYTES: usize = 1000;
/// The limit of a whole reply.
const MAX_REPLY_BYTES: usize = 100_000;
/// How many challenges of a log-in are answered.
const MAX_CHALLENGES: usize = 10;

const COMPLETED: Code =
    Code { severity: Severity::PositiveCompletion, category: Category::MailSystem, detail: Detail::Zero };
const CHALLENGE: Code =
    Code { severity: Severity::PositiveIntermediate, category: Category::Unspecified3, detail: Detail::Four };

/// An open connection.
pub(super) struct Connection {
    stream: BufReader<Compat<Stream>>,
    server: ServerInfo,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The server refuses the command.
    #[error("{0}")]
    Refused(SmtpReply),
    /// The server said something that does not answer the command, such as that it closes the connection.
    #[error("the mail server answered out of turn: {0}")]
    OutOfTurn(SmtpReply),
    /// What the server said is no reply.
    #[error("the mail server does not speak SMTP")]
    NoReply,
    #[error("the mail server closed the connection")]
    Closed,
    #[error("the mail server does not offer STARTTLS")]
    NoTls,
    #[error("the mail server sent text in the clear behind its answer to STARTTLS")]
    ClearText,
    #[error("the mail server offers no way to log in that is known here")]
    NoLogIn,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Client(#[from] Error),
}

impl Connection {
    /// Connects, encrypts from the first byte if asked to, and reads the greeting.
    pub(super) async fn open(
        address: (&str, u16),
        timeout: Duration,
        tls: Option<TlsParameters>,
    ) -> Result<Self, ConnectionError> {
        let stream = Stream::connect_tokio1(address, Some(timeout), tls, None).await?;
        let mut connection = Self { stream: BufReader::new(stream.compat()), server: ServerInfo::default() };
        connection.answer(Expects::Completion).await?;
        Ok(connection)
    }

    /// Introduces the client. A server that refuses `EHLO` gets `HELO`, and offers no extensions (RFC 5321, section
    /// 3.2).
    pub(super) async fn hello(&mut self, name: &ClientId) -> Result<(), ConnectionError> {
        match self.command(Ehlo::new(name.clone()), Expects::Completion).await {
            Ok(Reply { mut lines, .. }) => {
                // lettre wants the server's name first, which a server may leave out.
                lines.insert(0, "unnamed".into());
                self.server = ServerInfo::from_response(&Response::new(COMPLETED, lines))?;
            }
            Err(ConnectionError::Refused(reply)) if reply.code >= 500 => {
                self.command(format!("HELO {name}\r\n"), Expects::Completion).await?;
                self.server = ServerInfo::default();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn offers(&self, extension: Extension) -> bool {
        self.server.supports_feature(extension)
    }

    /// Encrypts the connection.
    pub(super) async fn start_tls(
        &mut self,
        parameters: TlsParameters,
        name: &ClientId,
    ) -> Result<(), ConnectionError> {
        if !self.offers(Extension::StartTls) {
            return Err(ConnectionError::NoTls);
        }
        self.command(Starttls, Expects::Completion).await?;
        // It would be read as if it had come encrypted, whoever sent it.
        if !self.stream.buffer().is_empty() {
            return Err(ConnectionError::ClearText);
        }
        self.stream.get_mut().get_mut().upgrade_tls(parameters).await?;
        self.hello(name).await
    }

    pub(super) async fn log_in(&mut self, credentials: &Credentials) -> Result<(), ConnectionError> {
        let offered = self.server.get_auth_mechanism(DEFAULT_MECHANISMS);
        let mechanism = offered.ok_or(ConnectionError::NoLogIn)?;
        let mut next = Auth::new(mechanism, credentials.clone(), None)?;
        for _ in 0..=MAX_CHALLENGES {
            let reply = self.command(next, Expects::LogIn).await?;
            if reply.code != 334 {
                return Ok(());
            }
            let challenge = Response::new(CHALLENGE, reply.lines);
            next = Auth::new_from_response(mechanism, credentials.clone(), &challenge)?;
        }
        Err(ConnectionError::NoLogIn)
    }

    /// Sends a command and reads the reply.
    pub(super) async fn command(
        &mut self,
        command: impl Display,
        expects: Expects,
    ) -> Result<Reply, ConnectionError> {
        self.write(command.to_string().as_bytes()).await?;
        self.answer(expects).await
    }

    /// Sends the content of a mail, and reads whether the server has taken it.
    pub(super) async fn content(&mut self, content: &[u8]) -> Result<Reply, ConnectionError> {
        self.write(&dot_stuffed(content)).await?;
        self.answer(Expects::Completion).await
    }

    /// Says goodbye.
    pub(super) async fn quit(&mut self) -> Result<(), ConnectionError> {
        self.write(Quit.to_string().as_bytes()).await?;
        self.reply().await.map(drop)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    async fn answer(&mut self, expects: Expects) -> Result<Reply, ConnectionError> {
        let reply = self.reply().await?;
        if expects.takes(reply.code) {
            Ok(reply)
        } else if reply.code >= 400 {
            Err(ConnectionError::Refused(reply.shown()))
        } else {
            Err(ConnectionError::OutOfTurn(reply.shown()))
        }
    }

    async fn reply(&mut self) -> Result<Reply, ConnectionError> {
        let mut left = MAX_REPLY_BYTES;
        let mut lines = Vec::new();
        let mut first_code = None;
        loop {
            let line = ReplyLine::parse(&self.line(&mut left).await?).ok_or(ConnectionError::NoReply)?;
            if *first_code.get_or_insert(line.code) != line.code {
                return Err(ConnectionError::NoReply);
            }
            lines.push(line.text);
            if line.is_last {
                return Ok(Reply { code: line.code, lines });
            }
        }
    }

    /// Reads one line with its end; `left` is how much may be read.
    async fn line(&mut self, left: &mut usize) -> Result<Vec<u8>, ConnectionError> {
        let mut line = Vec::new();
        loop {
            let read = self.stream.fill_buf().await?;
            if read.is_empty() {
                return Err(ConnectionError::Closed);
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let piece = &read[..end.map_or(read.len(), |end| end + 1)];
            let room = MAX_LINE_BYTES.saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            let length = piece.len();
            self.stream.consume(length);
            *left = left.checked_sub(length).ok_or(ConnectionError::NoReply)?;
            if end.is_some() {
                return Ok(line);
            }
        }
    }
}

/// The content with its end, and a second dot before each line that begins with one (RFC 5321, section 4.5.2).
fn dot_stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + content.len() / 64 + 5);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.is_empty() && !stuffed.ends_with(b"\r\n") {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_content_ends_it() {
        for (content, sent) in [
            ("", ".\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n..b\r\nc.\r\n", "..\r\n...b\r\nc.\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8(dot_stuffed(content.as_bytes())).unwrap(), sent);
        }
    }
}
