//! Sends mail through a server, over connections that are kept.
//!
//! lettre gives a connection back to its pool however its use ended. One that was left in the middle of a mail
//! (time-out, or the future dropped) would answer the next mail with the replies of the one before, and that mail
//! could be taken for sent. So such an end throws the whole pool away; the next mail gets a new one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    transport::smtp::{AsyncSmtpTransportBuilder, Error, PoolConfig},
};

use super::{MailError, MailerError, SmtpReply};

type Pool = Arc<AsyncSmtpTransport<Tokio1Executor>>;

pub(super) struct Smtp {
    builder: AsyncSmtpTransportBuilder,
    pool: Mutex<Pool>,
}

/// How connections to the mail server are made and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmtpSettings {
    /// How many connections are kept open for the next mails.
    pub kept_connections: u32,
    /// How long connecting may take; what comes after it is bounded by the time that a mail may take.
    pub connect_timeout: Duration,
    /// How long a connection is kept that is not used.
    pub idle_timeout: Duration,
}

impl Default for SmtpSettings {
    fn default() -> Self {
        Self {
            kept_connections: 16,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// How long a pool that is thrown away may take to say good-bye.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

impl Smtp {
    pub(super) fn new(url: &str, settings: &SmtpSettings) -> Result<Self, MailerError> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|error| MailerError::Url(error.to_string()))?
            .timeout(Some(settings.connect_timeout))
            .pool_config(
                PoolConfig::new().max_size(settings.kept_connections).idle_timeout(settings.idle_timeout),
            );
        let pool = Mutex::new(Arc::new(builder.clone().build()));
        Ok(Self { builder, pool })
    }

    pub(super) async fn send(&self, message: &Message, timeout: Duration) -> Result<SmtpReply, MailError> {
        let pool = Arc::clone(&self.lock());
        let bytes = message.formatted();
        let mut sending = std::pin::pin!(pool.send_raw(message.envelope(), &bytes));
        // Declared after `sending`, so dropped before it: a connection left in the middle finds its pool thrown away.
        let mut unfinished = Unfinished { smtp: self, pool: Some(Arc::clone(&pool)) };
        if let Ok(answer) = tokio::time::timeout(timeout, &mut sending).await {
            unfinished.pool = None;
            return answer.map(|response| reply(&response)).map_err(failure);
        }
        drop(unfinished);
        // The pool then takes back no connection, and closes those it has; if that takes long, they are just dropped.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, pool.shutdown()).await;
        Err(MailError::Temporary {
            what: format!("the mail server took longer than {} ms", timeout.as_millis()),
            source: None,
        })
    }

    /// Puts a new pool in the place of this one, unless somebody has done so.
    fn replace(&self, pool: &Pool) {
        let mut current = self.lock();
        if Arc::ptr_eq(&current, pool) {
            *current = Arc::new(self.builder.clone().build());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // No code that holds it can leave it half changed.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mail that is under way.
struct Unfinished<'a> {
    smtp: &'a Smtp,
    pool: Option<Pool>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            self.smtp.replace(pool);
        }
    }
}

fn reply(response: &lettre::transport::smtp::response::Response) -> SmtpReply {
    let lines: Vec<&str> = response.message().collect();
    SmtpReply::new(response.code().into(), &lines.join(" "))
}

/// A reply of 5xx is final, but for those by which the server turns us away, not the mail: authentication required,
/// too weak, failed, or encryption required (RFC 4954, section 6). Those are ours to repair, and no mail should die of
/// them. Everything else may work another time.
fn failure(error: Error) -> MailError {
    const OURS_TO_REPAIR: [u16; 4] = [530, 534, 535, 538];
    let Some(code) = error.status().map(u16::from) else {
        return MailError::Temporary {
            what: "the mail could not be handed to the server".into(),
            source: Some(error.into()),
        };
    };
    let said = std::error::Error::source(&error).map(ToString::to_string);
    let reply = SmtpReply::new(code, &said.unwrap_or_default());
    if error.is_permanent() && !OURS_TO_REPAIR.contains(&code) {
        MailError::Refused { reply }
    } else {
        MailError::TurnedAway { reply }
    }
}
