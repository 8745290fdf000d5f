//! Pauses and resumes queues, with an audit record.

use std::convert::Infallible;

use engine::{Pause, QueueSetting, QueueView};
use serde_json::json;

use super::shop::Shop;
use crate::support::{
    audit::{self, AuditActor, AuditEntry},
    change_error::ChangeError,
};

/// The desired state of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredState<'a> {
    /// No jobs are claimed.
    Paused {
        /// Why the queue is paused, for the audit log.
        reason: &'a str,
    },
    /// Jobs are claimed.
    Running {
        /// The reason, if one was given.
        reason: Option<&'a str>,
    },
}

/// A queue was not found or not changed.
pub type QueueError = ChangeError<Infallible>;

/// Pauses or resumes a queue, and returns its new state. With an expected version it changes nothing unless the queue
/// has that version.
///
/// All processes follow within about a second. Pausing a paused queue changes the reason and the person. A call that
/// changes nothing leaves no audit record.
///
/// # Errors
/// See [`QueueError`].
pub async fn set_queue(
    shop: &Shop,
    name: &str,
    desired: DesiredState<'_>,
    expected: Option<i64>,
    by: impl Into<AuditActor<'_>>,
) -> Result<QueueView, QueueError> {
    let by = by.into();
    let engine = shop.engine();
    find_queue(shop, name).await?;
    let (action, reason, pause) = match desired {
        DesiredState::Paused { reason } => {
            ("queue.pause", Some(reason), Some(Pause { actor: by.actor, reason }))
        }
        DesiredState::Running { reason } => ("queue.resume", reason, None),
    };
    let mut transaction = shop.pool().begin().await?;
    let was = engine.lock_queue_in(&mut transaction, name).await?;
    if expected.is_some_and(|expected| expected != was.version) {
        return Err(QueueError::VersionMismatch { current: was.version });
    }
    if is_already_set(&was, pause.as_ref()) {
        transaction.rollback().await?;
        return find_queue(shop, name).await;
    }
    engine.set_queue_in(&mut transaction, name, pause.as_ref()).await?;
    let change = AuditEntry::new(action, "queue", name)
        .reason(reason)
        .before(json!({"paused": was.paused, "paused_by": was.paused_by, "reason": was.reason}))
        .after(json!({
            "paused": pause.is_some(),
            "paused_by": pause.map(|pause| pause.actor),
            "reason": pause.map(|pause| pause.reason),
        }));
    audit::record(&mut transaction, &by, &[change]).await?;
    transaction.commit().await?;
    engine.queue_changed(name);
    find_queue(shop, name).await
}

/// Whether a queue is already in this state, set by the same person for the same reason.
fn is_already_set(was: &QueueSetting, pause: Option<&Pause<'_>>) -> bool {
    match pause {
        None => !was.paused,
        Some(pause) => {
            was.paused
                && was.paused_by.as_deref() == Some(pause.actor)
                && was.reason.as_deref() == Some(pause.reason)
        }
    }
}

async fn find_queue(shop: &Shop, name: &str) -> Result<QueueView, QueueError> {
    let queue = shop.engine().queues().await?.into_iter().find(|queue| queue.name == name);
    queue.ok_or(QueueError::NotFound)
}
