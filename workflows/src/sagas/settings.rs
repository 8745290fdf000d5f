//! The settings of the sagas, and their definitions.

use std::time::Duration;

use engine::{Definition, GraphError, RetryPolicy};

use super::{cancel_order, deliver_notification, place_order, return_order};
use crate::{mail::Mailer, notifications, support::admin_emails::AdminEmails};

/// The queues of the shop's sagas: what workers have to work on.
pub const QUEUES: [&str; 2] = ["default", notifications::QUEUE];

/// The settings of the sagas.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The mailer that sends notifications.
    pub mailer: Mailer,
    /// How long placing an order may take until it is rejected and its stock is released.
    pub reservation_ttl: Duration,
    /// How long an order waits for its payment until it is rejected; `None` if it does not wait. It has to be shorter than
    /// `reservation_ttl`. Orders that are waiting keep the time with which they were accepted.
    pub payment_window: Option<Duration>,
    /// How long a return waits for a decision until it expires.
    pub return_approval_window: Duration,
    /// How long an approved return waits for its parcel until it expires.
    pub return_parcel_window: Duration,
    /// The retries of sending a mail.
    pub send_mail_retry: RetryPolicy,
    /// Who gets a mail when orders make a product's stock low.
    pub admin_emails: AdminEmails,
}

impl Settings {
    /// The defaults: a quarter of an hour for placing an order, no wait for its payment, two weeks for a
    /// decision about a return and 30 days for its parcel, about two hours for a mail, and no administrators.
    pub fn new(mailer: Mailer) -> Self {
        Self {
            mailer,
            reservation_ttl: Duration::from_mins(15),
            payment_window: None,
            return_approval_window: Duration::from_hours(14 * 24),
            return_parcel_window: Duration::from_hours(30 * 24),
            send_mail_retry: deliver_notification::SEND_MAIL_RETRY,
            admin_emails: AdminEmails::default(),
        }
    }
}

/// Builds the definitions of all sagas of the shop, to be registered with an engine.
///
/// # Errors
/// When a retry policy in the settings is invalid.
pub fn definitions(settings: Settings) -> Result<Vec<Definition>, GraphError> {
    Ok(vec![
        place_order::saga(settings.reservation_ttl, settings.payment_window, settings.admin_emails)?,
        cancel_order::saga()?,
        return_order::saga(settings.return_approval_window, settings.return_parcel_window)?,
        deliver_notification::saga(settings.mailer, settings.send_mail_retry)?,
    ])
}

/// Builds earlier graphs of the shop's sagas, to be registered beside the [definitions] with `EngineBuilder::also`: sagas
/// that a version before began go on with them.
///
/// # Errors
/// As [`definitions`].
pub fn earlier_definitions(settings: Settings) -> Result<Vec<Definition>, GraphError> {
    Ok(vec![place_order::without_payment(settings.reservation_ttl, settings.admin_emails)?])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_queue_of_a_saga_is_worked_on() {
        let mailer = Mailer::files("mails", "shop@example.com").expect("a valid sender");
        let definitions = definitions(Settings::new(mailer)).expect("the default policies are valid");
        let used: BTreeSet<&str> =
            definitions.iter().map(|definition| definition.graph().queue.as_str()).collect();
        assert_eq!(used, BTreeSet::from(QUEUES));
    }
}
