//! Sends mail, over SMTP or into files, behind a circuit breaker.

mod error;
mod files;
mod mailer;
mod message;
mod metrics;
mod smtp;

pub use error::{MailError, MailerError, SmtpReply};
pub(crate) use error::{reply_in, was_held_back};
pub use mailer::Mailer;
pub use message::Mail;
pub use metrics::describe_metrics;
pub use smtp::SmtpSettings;
