//! Updates a notification's status when its saga is dead-lettered, and when an operator retries it.

use engine::{Status, StatusChange, StatusObserver, StepError, Tx};

use crate::{
    notifications::{self, ChangedNotification, NotificationStatus, Progress},
    support::outbox,
};

pub(crate) struct StatusSync;

impl StatusObserver for StatusSync {
    async fn status_changed(&self, tx: &mut Tx<'_>, changes: &[StatusChange]) -> Result<(), StepError> {
        let progress: Vec<Progress<'_>> = changes
            .iter()
            .filter_map(|change| Some(Progress::to(change.saga_id, notification_status(change.status)?)))
            .collect();
        if progress.is_empty() {
            return Ok(());
        }
        let moved = notifications::record_progress(tx, &progress).await?;
        let events: Vec<_> = moved.iter().filter_map(ChangedNotification::event).collect();
        outbox::append(tx, &events).await?;
        Ok(())
    }
}

/// The status to record; `None` if the steps record it themselves.
fn notification_status(status: Status) -> Option<NotificationStatus> {
    match status {
        Status::Dead => Some(NotificationStatus::Failed),
        Status::Running => Some(NotificationStatus::Sending),
        Status::Compensating | Status::Completed | Status::Compensated => None,
    }
}
