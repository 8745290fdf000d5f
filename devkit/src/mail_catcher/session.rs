//! One SMTP connection, from its greeting to its end (RFC 5321).

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{Behaviour, Message, Stage, State};

/// RFC 5321 allows a line of text 1000 bytes with its end, and a command less.
const MAX_LINE_BYTES: usize = 1000;
const MAX_MESSAGE_BYTES: usize = 10 * 1024 * 1024;
const MAX_RECIPIENTS: usize = 100;

/// How long a client may stay silent: RFC 5321 asks for five minutes at least.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// A connection and the mail transaction that is open on it.
pub(super) struct Session {
    stream: BufReader<TcpStream>,
    state: Arc<State>,
    behaviour: Behaviour,
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

enum Line {
    /// A line without its line end.
    Whole(Vec<u8>),
    TooLong,
    /// The client closed the connection.
    End,
}

/// What to do after a command.
enum Next {
    Reply(&'static str),
    Data,
    Close(&'static str),
}

impl Session {
    pub(super) fn new(stream: TcpStream, state: Arc<State>) -> Self {
        let behaviour = *state.behaviour.borrow();
        Self { stream: BufReader::new(stream), state, behaviour, greeted: false, from: None, to: Vec::new() }
    }

    pub(super) async fn run(mut self) -> io::Result<()> {
        match self.behaviour {
            Behaviour::Refuse => return Ok(()),
            Behaviour::NeverGreet => return self.ignore().await,
            Behaviour::Accept
            | Behaviour::TemporaryFailure(_)
            | Behaviour::PermanentFailure(_)
            | Behaviour::Answer(..)
            | Behaviour::WithoutSmtpUtf8
            | Behaviour::DropAfterData
            | Behaviour::StallAfterData(_)
            | Behaviour::Trickle(_) => {}
        }
        if let Some(failure) = self.failure(Stage::Greeting) {
            return self.reply(failure).await;
        }
        self.reply("220 localhost ESMTP mail catcher").await?;
        loop {
            let next = match self.line().await? {
                Line::Whole(line) => self.command(&String::from_utf8_lossy(&line)),
                Line::TooLong => Next::Reply("500 line too long"),
                Line::End => return Ok(()),
            };
            match next {
                Next::Reply(text) => self.reply(text).await?,
                Next::Close(text) => return self.reply(text).await,
                Next::Data => {
                    self.reply("354 end with <CRLF>.<CRLF>").await?;
                    match self.data().await? {
                        Some(text) => self.reply(text).await?,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    /// Reads and discards until the client disconnects.
    async fn ignore(&mut self) -> io::Result<()> {
        while let Line::Whole(_) | Line::TooLong = self.line().await? {}
        Ok(())
    }

    fn command(&mut self, line: &str) -> Next {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.reset();
                self.greeted = true;
                Next::Reply(if self.behaviour == Behaviour::WithoutSmtpUtf8 {
                    "250-localhost\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250 PIPELINING"
                } else {
                    "250-localhost\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING"
                })
            }
            "HELO" => {
                self.reset();
                self.greeted = true;
                Next::Reply("250 localhost")
            }
            "MAIL" => Next::Reply(self.mail(argument)),
            "RCPT" => Next::Reply(self.recipient(argument)),
            "DATA" if self.from.is_none() || self.to.is_empty() => {
                Next::Reply("503 need MAIL and RCPT first")
            }
            "DATA" => Next::Data,
            "RSET" => {
                self.reset();
                Next::Reply("250 OK")
            }
            "NOOP" => Next::Reply("250 OK"),
            "VRFY" => Next::Reply("252 can't verify"),
            "QUIT" => Next::Close("221 bye"),
            _ => Next::Reply("502 not implemented"),
        }
    }

    fn mail(&mut self, argument: &str) -> &'static str {
        if !self.greeted || self.from.is_some() {
            return "503 bad sequence of commands";
        }
        let Some((from, parameters)) = path(argument, "FROM:") else {
            return "501 expected MAIL FROM:<address>";
        };
        let size = parameters.split(' ').find_map(|word| word.strip_prefix("SIZE=")?.parse::<usize>().ok());
        if size.is_some_and(|size| size > MAX_MESSAGE_BYTES) {
            return "552 message too big";
        }
        if let Some(failure) = self.failure(Stage::Sender) {
            return failure;
        }
        self.from = Some(from.to_owned());
        "250 OK"
    }

    fn recipient(&mut self, argument: &str) -> &'static str {
        if self.from.is_none() {
            return "503 need MAIL first";
        }
        let Some((to, _)) = path(argument, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return "501 expected RCPT TO:<address>";
        };
        if let Some(failure) = self.failure(Stage::Recipient) {
            return failure;
        }
        if self.to.len() >= MAX_RECIPIENTS {
            return "452 too many recipients";
        }
        self.to.push(to.to_owned());
        "250 OK"
    }

    /// Reads the message and returns the reply to it; `None` when the connection has to be closed.
    async fn data(&mut self) -> io::Result<Option<&'static str>> {
        let mut data = Vec::new();
        let mut too_long = false;
        let mut too_big = false;
        loop {
            let line = match self.line().await? {
                Line::End => return Ok(None),
                Line::TooLong => {
                    too_long = true;
                    continue;
                }
                Line::Whole(line) if line == b"." => break,
                Line::Whole(line) => line,
            };
            too_big |= data.len() + line.len() > MAX_MESSAGE_BYTES;
            if !too_big {
                data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                data.extend_from_slice(b"\r\n");
            }
        }
        let message =
            Message { from: self.from.take().unwrap_or_default(), to: std::mem::take(&mut self.to), data };
        if too_long {
            return Ok(Some("500 line too long"));
        }
        if too_big {
            return Ok(Some("552 message too big"));
        }
        if let Some(failure) = self.failure(Stage::Data) {
            return Ok(Some(failure));
        }
        self.state.keep(message);
        if let Behaviour::StallAfterData(pause) = self.behaviour {
            tokio::time::sleep(pause).await;
        }
        Ok((self.behaviour != Behaviour::DropAfterData).then_some("250 OK, kept"))
    }

    fn failure(&self, stage: Stage) -> Option<&'static str> {
        match self.behaviour {
            Behaviour::TemporaryFailure(at) if at == stage => Some("451 try again later"),
            Behaviour::PermanentFailure(at) if at == stage => Some("550 no such mailbox"),
            Behaviour::Answer(at, reply) if at == stage => Some(reply),
            Behaviour::Accept
            | Behaviour::NeverGreet
            | Behaviour::TemporaryFailure(_)
            | Behaviour::PermanentFailure(_)
            | Behaviour::Answer(..)
            | Behaviour::WithoutSmtpUtf8
            | Behaviour::DropAfterData
            | Behaviour::StallAfterData(_)
            | Behaviour::Trickle(_)
            | Behaviour::Refuse => None,
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        let answer = format!("{text}\r\n");
        let stream = self.stream.get_mut();
        let Behaviour::Trickle(pause) = self.behaviour else {
            return stream.write_all(answer.as_bytes()).await;
        };
        for byte in answer.bytes() {
            tokio::time::sleep(pause).await;
            stream.write_all(&[byte]).await?;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            let limit = (MAX_LINE_BYTES - line.len()) as u64;
            let mut piece = (&mut self.stream).take(limit);
            let read = tokio::time::timeout(IDLE_TIMEOUT, piece.read_until(b'\n', &mut line)).await??;
            if read == 0 {
                return Ok(Line::End);
            }
            if line.ends_with(b"\n") {
                break;
            }
            if line.len() == MAX_LINE_BYTES {
                too_long = true;
                line.clear();
            }
        }
        if too_long {
            return Ok(Line::TooLong);
        }
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
        Ok(Line::Whole(line))
    }
}

/// Reads `FROM:<address> parameters`.
fn path<'line>(argument: &'line str, keyword: &str) -> Option<(&'line str, &'line str)> {
    let start = argument.get(..keyword.len()).filter(|start| start.eq_ignore_ascii_case(keyword))?;
    let rest = argument[start.len()..].trim_start().strip_prefix('<')?;
    rest.split_once('>')
}
