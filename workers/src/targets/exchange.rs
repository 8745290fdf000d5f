//! A durable topic exchange of an AMQP broker, with publisher confirms.

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
    uri::{AMQPScheme, AMQPUri},
};

use super::{Batch, Message, Outcome, TargetError};

/// Kept on disk by durable queues.
const PERSISTENT: u8 = 2;
/// A connection that is silently dead is noticed within two of these.
const HEARTBEAT_S: u16 = 10;

/// An exchange of a broker.
pub struct AmqpExchange {
    uri: AMQPUri,
    exchange: ShortString,
    session: Option<Session>,
}

/// The connection is kept because it closes when it is dropped.
struct Session {
    channel: Channel,
    _connection: Connection,
}

impl AmqpExchange {
    /// An exchange of the broker at `url` (`amqp://user:password@host:5672/vhost`). Nothing is contacted yet.
    ///
    /// # Errors
    /// When the URL is none, or not this protocol's. The error does not repeat it.
    pub fn new(url: &str, exchange: &str) -> Result<Self, TargetError> {
        // What the parser says may hold the URL, and so a password.
        let uri: Result<AMQPUri, String> = url.parse();
        let mut uri = uri.map_err(|_| TargetError::Url)?;
        if uri.scheme != AMQPScheme::AMQP {
            return Err(TargetError::Url);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let exchange = short(exchange)?;
        Ok(Self { uri, exchange, session: None })
    }

    pub(super) async fn publish(&mut self, batch: Batch<'_>) -> Result<Outcome, TargetError> {
        if batch.messages.is_empty() {
            // A broker can't tell what it was given.
            return Ok(Outcome::Confirmed);
        }
        // Taken out, so that it is gone after an error, and when this is dropped half-way.
        let session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let mut confirms = Vec::with_capacity(batch.messages.len());
        for message in batch.messages {
            let routing_key = short(&message.routing_key)?;
            let confirm = session
                .channel
                .basic_publish(
                    self.exchange.clone(),
                    routing_key,
                    BasicPublishOptions::default(),
                    message.payload.as_bytes(),
                    properties(message)?,
                )
                .await?;
            confirms.push((message.event_id, confirm));
        }
        for (event_id, confirm) in confirms {
            match confirm.await? {
                Confirmation::Ack(_) => {}
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(TargetError::Refused(event_id));
                }
            }
        }
        self.session = Some(session);
        Ok(Outcome::Confirmed)
    }

    async fn connect(&self) -> Result<Session, lapin::Error> {
        let options = ConnectionProperties::default().with_connection_name("sagaline-events".into());
        let connection = Connection::connect_uri(self.uri.clone(), options).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(self.exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        Ok(Session { channel, _connection: connection })
    }
}

/// Without the URL, which holds a password.
impl std::fmt::Debug for AmqpExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpExchange").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

fn properties(message: &Message) -> Result<BasicProperties, TargetError> {
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

/// The protocol's names have at most 255 bytes.
fn short(text: &str) -> Result<ShortString, TargetError> {
    ShortString::try_new(text).map_err(|_| TargetError::Answer(format!("`{text:.80}` is too long")))
}
