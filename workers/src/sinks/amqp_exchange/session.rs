//! One connection to a broker, and the messages that were sent over it and are not confirmed yet.

mod socket;
mod stream;

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use futures::FutureExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
    uri::AMQPUri,
};
use tokio::time::{Instant, timeout, timeout_at};

use self::socket::AbortOnDropSocket;
use crate::sinks::{batch::EventMessage, error::SinkError};

/// The delivery mode of messages that durable queues keep on disk.
const PERSISTENT: u8 = 2;
/// How long connecting may take, declaring the exchange included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection with its exchange declared.
pub(super) struct Session {
    exchange: ShortString,
    channel: Channel,
    connection: Connection,
    /// Unconfirmed messages in the order in which they were sent.
    unconfirmed: VecDeque<Unconfirmed>,
    /// The last field: the socket is shut down after the connection had its chance to close.
    _socket: AbortOnDropSocket,
}

struct Unconfirmed {
    event_id: i64,
    confirmed: Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>,
}

/// The broker's answer for the oldest unconfirmed message.
pub(super) enum Confirm {
    /// The broker and its queues have accepted the message.
    Acked(i64),
    /// A queue did not accept the message.
    Nacked(i64),
    /// No message is unconfirmed.
    NothingOutstanding,
    /// The answer has not come in time.
    Pending,
    /// The connection is lost, so no answer will come.
    ConnectionLost(lapin::Error),
}

impl Session {
    /// Connects and declares the exchange, in at most half a minute.
    pub(super) async fn open(uri: AMQPUri, exchange: ShortString) -> Result<Self, SinkError> {
        let socket = AbortOnDropSocket::default();
        let connecting = async {
            let options = ConnectionProperties::default().with_connection_name("sagaline-events".into());
            let connection = socket.connect(uri, options).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let name = exchange.clone();
            channel.exchange_declare(name, ExchangeKind::Topic, durable, FieldTable::default()).await?;
            Ok::<_, lapin::Error>((connection, channel))
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| SinkError::Timeout)?;
        let (connection, channel) = connected?;
        Ok(Self { exchange, channel, connection, unconfirmed: VecDeque::new(), _socket: socket })
    }

    /// Forgets the answered messages up to this event, and returns whether the session can continue after it: every
    /// message up to it is answered, and the next one is the oldest unconfirmed message.
    pub(super) fn can_continue_after(&mut self, after: i64) -> bool {
        while let Some(front) = self.unconfirmed.front_mut()
            && front.event_id <= after
            && front.confirmed.as_mut().now_or_never().is_some()
        {
            self.unconfirmed.pop_front();
        }
        self.unconfirmed.front().is_none_or(|front| front.event_id == after + 1)
    }

    /// Whether the broker has announced that it accepts nothing for now.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Sends the messages that were not sent yet, up to `window` unconfirmed ones. Waits for nothing.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(super) fn send(&mut self, messages: &[EventMessage], window: usize) -> Result<(), SinkError> {
        if !self.connection.status().connected() || !self.channel.status().connected() {
            return Err(SinkError::Lost);
        }
        let sent = self.unconfirmed.back().map_or(i64::MIN, |last| last.event_id);
        for message in messages.iter().filter(|message| message.event_id > sent) {
            if self.unconfirmed.len() >= window {
                break;
            }
            let (channel, exchange) = (self.channel.clone(), self.exchange.clone());
            let (routing_key, properties) = (short(&message.routing_key)?, properties(message)?);
            let payload = message.payload.clone();
            let mut confirmed: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async move {
                let options = BasicPublishOptions::default();
                let confirm =
                    channel.basic_publish(exchange, routing_key, options, payload.as_bytes(), properties);
                confirm.await?.await
            });
            // lapin queues the message at the first poll, so it is polled here, in the order of the messages.
            if let Some(early) = confirmed.as_mut().now_or_never() {
                confirmed = Box::pin(std::future::ready(early));
            }
            self.unconfirmed.push_back(Unconfirmed { event_id: message.event_id, confirmed });
        }
        Ok(())
    }

    /// Waits for the answer for the oldest unconfirmed message.
    pub(super) async fn next_confirm(&mut self, until: Instant) -> Confirm {
        let Some(front) = self.unconfirmed.front_mut() else { return Confirm::NothingOutstanding };
        let event_id = front.event_id;
        let Ok(answer) = timeout_at(until, front.confirmed.as_mut()).await else { return Confirm::Pending };
        self.unconfirmed.pop_front();
        match answer {
            Ok(Confirmation::Ack(_)) => Confirm::Acked(event_id),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Confirm::Nacked(event_id),
            Err(error) => Confirm::ConnectionLost(error),
        }
    }

    /// Closes the connection in the protocol's way.
    pub(super) async fn close(self) {
        let _ = self.connection.close(200, "OK".into()).await;
    }
}

fn properties(message: &EventMessage) -> Result<BasicProperties, SinkError> {
    let mut headers = FieldTable::default();
    headers.insert("event_id".into(), AMQPValue::LongLongInt(message.event_id));
    headers.insert("key".into(), AMQPValue::LongString(message.key.as_str().into()));
    headers.insert("at".into(), AMQPValue::LongString(message.at.as_str().into()));
    Ok(BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_app_id("sagaline".into())
        .with_message_id(short(&message.event_id.to_string())?)
        .with_timestamp(message.at_s)
        .with_headers(headers))
}

/// A short string of the protocol, which has at most 255 bytes.
pub(super) fn short(text: &str) -> Result<ShortString, SinkError> {
    ShortString::try_new(text).map_err(|_| SinkError::BadReply(format!("`{text:.80}` is too long")))
}
