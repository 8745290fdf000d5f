//! Sends mail, over SMTP or into files, behind a circuit breaker.

mod details;
mod error;
mod files;
mod mailer;
mod message;
mod metrics;
mod smtp;
mod subject;

pub(crate) use details::AttemptDetails;
pub use error::{MailError, MailerError, SmtpReply, SmtpStage};
pub use mailer::Mailer;
pub use message::Mail;
pub use metrics::describe_metrics;
pub use smtp::SmtpSettings;
