//! The statuses of a notification.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::support::{bounded_list::by_status::StatusPath, text_column::text_column};

/// The status of a notification's delivery.
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
    /// It is being sent, or waits for the next attempt.
    Sending,
    /// The mail server accepted it.
    Sent,
    /// It could not be sent; an operator can retry it.
    Failed,
    /// It was cancelled before it was sent.
    Cancelled,
}

impl NotificationStatus {
    /// All statuses, in the order of their declaration.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name under which it is stored.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a list of those in this status may have to look at many before a page is full.
    pub fn may_scan(self) -> bool {
        self.path().may_scan()
    }

    /// What leads to the notifications in this status.
    pub(crate) fn path(self) -> StatusPath {
        match self {
            Self::Pending | Self::Sending => StatusPath::Moving,
            Self::Sent => StatusPath::Common,
            Self::Failed | Self::Cancelled => StatusPath::Recorded,
        }
    }
}

fn unknown_status(text: &str) -> String {
    format!("`{text}` is no notification status")
}

text_column!(NotificationStatus);
