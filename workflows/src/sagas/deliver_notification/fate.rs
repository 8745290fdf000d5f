//! Keeps the notification's status in step with a saga that is parked for an operator, or revived by one.

use engine::{Status, StatusChange, StatusObserver, StepError, Tx};

use super::reached;
use crate::{
    notifications::{self, MovedNotification, NotificationStatus, Progress},
    outbox,
};

pub(super) struct Fate;

impl StatusObserver for Fate {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        let progress: Vec<Progress<'_>> = changes
            .iter()
            .filter_map(|change| Some(reached(change.saga_id, tells(change.status)?)))
            .collect();
        if progress.is_empty() {
            return Ok(());
        }
        let moved = notifications::move_notifications(tx, &progress).await?;
        let events: Vec<_> = moved.iter().filter_map(MovedNotification::event).collect();
        outbox::append(tx, &events).await?;
        Ok(())
    }
}

/// What the steps themselves record is left to them.
fn tells(status: Status) -> Option<NotificationStatus> {
    match status {
        Status::Dead => Some(NotificationStatus::Failed),
        Status::Running => Some(NotificationStatus::Sending),
        Status::Compensating | Status::Completed | Status::Compensated => None,
    }
}
