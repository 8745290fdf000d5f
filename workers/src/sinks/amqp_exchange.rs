//! A durable topic exchange of an AMQP broker, with publisher confirms.
//!
//! A broker may be slow to confirm: it is short of memory, its disks are slow, its process is stopped. A message that was
//! sent may still arrive, so it is not sent again while its connection lives: the connection and its outstanding confirms
//! are kept from one batch to the next.

mod session;

use std::time::Duration;

use lapin::{types::ShortString, uri::AMQPUri};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{
    batch::{BATCH_TIMEOUT, EventBatch, SinkReply},
    error::SinkError,
};
use session::{Confirm, Session};

/// A silently lost connection is noticed within two of these.
const HEARTBEAT_S: u16 = 10;
/// The most unconfirmed messages at a time.
const WINDOW: usize = 500;
/// How long closing the connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// An exchange of an AMQP broker.
pub struct AmqpExchange {
    uri: AMQPUri,
    exchange: ShortString,
    session: Option<Session>,
    /// The attempt to connect, which outlives the batch that began it, so that there is never more than one.
    connecting: Option<AbortOnDropHandle<Result<Session, SinkError>>>,
    /// The most unconfirmed messages now: one after a queue refused a message, because every message behind a refused one
    /// is sent again.
    window: usize,
}

impl AmqpExchange {
    /// Creates the sink for an exchange of the broker at `url` (`amqps://user:password@host:5671/vhost`, or `amqp://`
    /// without TLS). Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL is invalid or of another protocol. The error leaves it out.
    pub fn new(url: &str, exchange: &str) -> Result<Self, SinkError> {
        // The parser's error may hold the URL, and so a password.
        let uri: Result<AMQPUri, String> = url.parse();
        let mut uri = uri.map_err(|_| SinkError::Url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let exchange = session::short(exchange)?;
        Ok(Self { uri, exchange, session: None, connecting: None, window: WINDOW })
    }

    pub(super) async fn publish(&mut self, batch: EventBatch<'_>) -> Result<SinkReply, SinkError> {
        let deadline = Instant::now() + BATCH_TIMEOUT;
        if self.session.as_mut().is_some_and(|session| !session.can_continue_after(batch.after)) {
            self.session = None;
        }
        let mut session = self.session(deadline).await?;
        let published = self.send_and_confirm(&mut session, batch, deadline).await;
        match published {
            Ok(_) | Err(SinkError::Blocked | SinkError::Timeout | SinkError::Refused(_)) => {
                self.session = Some(session);
            }
            Err(_) => {}
        }
        published
    }

    /// Sends the messages that have not been sent yet, and waits for confirms.
    async fn send_and_confirm(
        &mut self,
        session: &mut Session,
        batch: EventBatch<'_>,
        deadline: Instant,
    ) -> Result<SinkReply, SinkError> {
        if !session.is_blocked() {
            session.send(batch.messages, self.window)?;
        }
        let (mut through, mut refused) = (batch.after, None);
        // A blocked broker confirms nothing soon; confirms that have arrived are read nevertheless.
        let until = if session.is_blocked() { Instant::now() } else { deadline };
        let ended = loop {
            match session.next_confirm(until).await {
                Confirm::Acked(event_id) if refused.is_none() => through = event_id,
                Confirm::Acked(_) => {}
                Confirm::Nacked(event_id) => {
                    refused.get_or_insert(event_id);
                }
                Confirm::NothingOutstanding => break Ok(()),
                Confirm::Pending if session.is_blocked() => break Err(SinkError::Blocked),
                Confirm::Pending => break Err(SinkError::Timeout),
                Confirm::ConnectionLost(error) => break Err(SinkError::Amqp(error)),
            }
        };
        match refused {
            // The refused message and all behind it are sent again.
            Some(_) => self.window = 1,
            None if ended.is_ok() => self.window = self.window.saturating_mul(2).min(WINDOW),
            None => {}
        }
        if through > batch.after {
            return Ok(SinkReply::Confirmed(through));
        }
        if let Some(event_id) = refused {
            return Err(SinkError::Refused(event_id));
        }
        if session.is_blocked() {
            return Err(SinkError::Blocked);
        }
        ended.map(|()| SinkReply::Confirmed(through))
    }

    /// Takes the session, or connects if there is none.
    async fn session(&mut self, deadline: Instant) -> Result<Session, SinkError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let connecting = self.connecting.get_or_insert_with(|| {
            let connected = Session::open(self.uri.clone(), self.exchange.clone());
            AbortOnDropHandle::new(tokio::spawn(connected))
        });
        let Ok(connected) = tokio::time::timeout_at(deadline, connecting).await else {
            return Err(SinkError::Timeout);
        };
        self.connecting = None;
        connected.unwrap_or(Err(SinkError::Lost))
    }

    pub(super) async fn close(&mut self) {
        self.connecting = None;
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, session.close()).await;
        }
    }
}

/// Leaves the URL out, which holds a password.
impl std::fmt::Debug for AmqpExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpExchange").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
