//! Notifications: mails, and every attempt to deliver them.

mod body;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list_by_status;
pub(crate) mod list_templates;
