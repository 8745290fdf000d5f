//! What the sagas need from outside, and their definitions.

use std::time::Duration;

use engine::{Definition, GraphError, RetryPolicy};

use super::{cancel_order, deliver_notification, place_order};
use crate::{mail::Mailer, support::admin_emails::AdminEmails};

/// What the sagas need from outside.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What sends mail.
    pub mailer: Mailer,
    /// How long placing an order may take before it is rejected and what it holds is given back.
    pub reservation_ttl: Duration,
    /// How sending a mail is tried.
    pub send_mail_retry: RetryPolicy,
    /// Who is told when orders make a product's stock fall to its threshold.
    pub admin_emails: AdminEmails,
}

impl Settings {
    /// The defaults: a quarter of an hour for placing, some two hours for a mail, nobody to alert.
    pub fn new(mailer: Mailer) -> Self {
        Self {
            mailer,
            reservation_ttl: Duration::from_mins(15),
            send_mail_retry: deliver_notification::SEND_MAIL_RETRY,
            admin_emails: AdminEmails::default(),
        }
    }
}

/// Builds every saga of the shop, to be registered with an engine.
///
/// # Errors
/// When a policy of the settings is wrong.
pub fn definitions(settings: Settings) -> Result<Vec<Definition>, GraphError> {
    Ok(vec![
        place_order::saga(settings.reservation_ttl, settings.admin_emails)?,
        cancel_order::saga()?,
        deliver_notification::saga(settings.mailer, settings.send_mail_retry)?,
    ])
}
