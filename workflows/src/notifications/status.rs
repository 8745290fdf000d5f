//! The statuses of a notification.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::support::text_column::text_column;

/// Where a message is.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = unknown_status)]
pub enum NotificationStatus {
    /// It waits to be sent.
    Pending,
    /// It is being sent, or waits to be tried again.
    Sending,
    /// The mail server took it.
    Sent,
    /// It could not be sent; an operator can try again.
    Failed,
    /// It was called off before it was sent.
    Cancelled,
}

impl NotificationStatus {
    /// All of them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The stored name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is no notification status")
}

text_column!(NotificationStatus);
