//! The statuses of a notification.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::text_column::text_column;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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
    pub const ALL: [Self; 5] = [Self::Pending, Self::Sending, Self::Sent, Self::Failed, Self::Cancelled];

    /// The stored name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::str::FromStr for NotificationStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| format!("`{text}` is no notification status"))
    }
}

impl TryFrom<String> for NotificationStatus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

text_column!(NotificationStatus);
