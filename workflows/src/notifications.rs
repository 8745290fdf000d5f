//! Notifications: messages by e-mail, their statuses, and every attempt to deliver them.

mod message;
mod notification;
mod read;
mod status;
mod write;

pub(crate) use message::OWN_MAIL_FACTOR;
pub use message::{DELIVER_NOTIFICATION, DeliverNotification, QUEUE, SEND_MAIL};
pub use notification::{DeliveryAttempt, Notification, NotificationSummary};
pub use read::{MAX_ATTEMPTS_SHOWN, get, list, statuses};
pub use status::NotificationStatus;
pub(crate) use write::{ChangedNotification, NewNotification, Progress, insert, record_progress};
