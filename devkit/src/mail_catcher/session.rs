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

/// A reply without the end of its last line.
type Reply = &'static [u8];

/// What to do after a command.
enum Next {
    Reply(Reply),
    Data(Reply),
    Close(Reply),
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
            | Behaviour::AnswerBytes(..)
            | Behaviour::WithoutSmtpUtf8
            | Behaviour::DropAfterData
            | Behaviour::GoodbyeAfterMail
            | Behaviour::StallAfterData(_)
            | Behaviour::Trickle(_) => {}
        }
        let greeting = self.answer(Stage::Greeting, b"220 localhost ESMTP mail catcher");
        self.reply(greeting).await?;
        if !is_positive(greeting) {
            return Ok(());
        }
        loop {
            let next = match self.line().await? {
                Line::Whole(line) => self.command(&String::from_utf8_lossy(&line)),
                Line::TooLong => Next::Reply(b"500 line too long"),
                Line::End => return Ok(()),
            };
            match next {
                Next::Reply(reply) => self.reply(reply).await?,
                Next::Close(reply) => return self.reply(reply).await,
                Next::Data(reply) => {
                    self.reply(reply).await?;
                    match self.data().await? {
                        Some(reply) => self.reply(reply).await?,
                        None => return Ok(()),
                    }
                    if self.behaviour == Behaviour::GoodbyeAfterMail {
                        return self.reply(b"221 bye").await;
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
                let usual: Reply = if self.behaviour == Behaviour::WithoutSmtpUtf8 {
                    b"250-localhost\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-AUTH PLAIN\r\n250 PIPELINING"
                } else {
                    b"250-localhost\r\n250-SIZE 10485760\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN\r\n\
                      250 PIPELINING"
                };
                let reply = self.answer(Stage::Hello, usual);
                self.reset();
                self.greeted = is_positive(reply);
                Next::Reply(reply)
            }
            "HELO" => {
                self.reset();
                self.greeted = true;
                Next::Reply(b"250 localhost")
            }
            // Anybody may log in.
            "AUTH" => Next::Reply(self.answer(Stage::LogIn, b"235 welcome")),
            "MAIL" => Next::Reply(self.mail(argument)),
            "RCPT" => Next::Reply(self.recipient(argument)),
            "DATA" if self.from.is_none() || self.to.is_empty() => {
                Next::Reply(b"503 need MAIL and RCPT first")
            }
            "DATA" => match self.answer(Stage::DataCommand, b"354 end with <CRLF>.<CRLF>") {
                reply if is_positive(reply) => Next::Data(reply),
                reply => Next::Reply(reply),
            },
            "RSET" => {
                self.reset();
                Next::Reply(b"250 OK")
            }
            "NOOP" => Next::Reply(b"250 OK"),
            "VRFY" => Next::Reply(b"252 can't verify"),
            "QUIT" => Next::Close(b"221 bye"),
            _ => Next::Reply(b"502 not implemented"),
        }
    }

    fn mail(&mut self, argument: &str) -> Reply {
        if !self.greeted || self.from.is_some() {
            return b"503 bad sequence of commands";
        }
        let Some((from, parameters)) = path(argument, "FROM:") else {
            return b"501 expected MAIL FROM:<address>";
        };
        let size = parameters.split(' ').find_map(|word| word.strip_prefix("SIZE=")?.parse::<usize>().ok());
        if size.is_some_and(|size| size > MAX_MESSAGE_BYTES) {
            return b"552 message too big";
        }
        let reply = self.answer(Stage::Sender, b"250 OK");
        if is_positive(reply) {
            self.from = Some(from.to_owned());
        }
        reply
    }

    fn recipient(&mut self, argument: &str) -> Reply {
        if self.from.is_none() {
            return b"503 need MAIL first";
        }
        let Some((to, _)) = path(argument, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return b"501 expected RCPT TO:<address>";
        };
        if self.to.len() >= MAX_RECIPIENTS {
            return b"452 too many recipients";
        }
        let reply = self.answer(Stage::Recipient, b"250 OK");
        if is_positive(reply) {
            self.to.push(to.to_owned());
        }
        reply
    }

    /// Reads the message and returns the reply to it; `None` when the connection has to be closed.
    async fn data(&mut self) -> io::Result<Option<Reply>> {
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
            return Ok(Some(b"500 line too long"));
        }
        if too_big {
            return Ok(Some(b"552 message too big"));
        }
        let reply = self.answer(Stage::Data, b"250 OK, kept");
        if !is_positive(reply) {
            return Ok(Some(reply));
        }
        self.state.keep(message);
        if let Behaviour::StallAfterData(pause) = self.behaviour {
            tokio::time::sleep(pause).await;
        }
        Ok((self.behaviour != Behaviour::DropAfterData).then_some(reply))
    }

    /// The reply at a stage: the usual one, unless the behaviour has another.
    fn answer(&self, stage: Stage, usual: Reply) -> Reply {
        match self.behaviour {
            Behaviour::TemporaryFailure(at) if at == stage => b"451 try again later",
            Behaviour::PermanentFailure(at) if at == stage => b"550 no such mailbox",
            Behaviour::Answer(at, reply) if at == stage => reply.as_bytes(),
            Behaviour::AnswerBytes(at, reply) if at == stage => reply,
            Behaviour::Accept
            | Behaviour::NeverGreet
            | Behaviour::TemporaryFailure(_)
            | Behaviour::PermanentFailure(_)
            | Behaviour::Answer(..)
            | Behaviour::AnswerBytes(..)
            | Behaviour::WithoutSmtpUtf8
            | Behaviour::DropAfterData
            | Behaviour::GoodbyeAfterMail
            | Behaviour::StallAfterData(_)
            | Behaviour::Trickle(_)
            | Behaviour::Refuse => usual,
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn reply(&mut self, reply: Reply) -> io::Result<()> {
        let answer = [reply, b"\r\n"].concat();
        let stream = self.stream.get_mut();
        let Behaviour::Trickle(pause) = self.behaviour else {
            return stream.write_all(&answer).await;
        };
        for byte in answer {
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

/// Whether the server goes on after this reply.
fn is_positive(reply: Reply) -> bool {
    matches!(reply.first(), Some(b'2' | b'3'))
}

/// Reads `FROM:<address> parameters`.
fn path<'line>(argument: &'line str, keyword: &str) -> Option<(&'line str, &'line str)> {
    let start = argument.get(..keyword.len()).filter(|start| start.eq_ignore_ascii_case(keyword))?;
    let rest = argument[start.len()..].trim_start().strip_prefix('<')?;
    rest.split_once('>')
}
