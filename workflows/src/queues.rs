//! Pausing and resuming queues, with the record of who did it.

use engine::{Pause, QueueView};
use serde_json::json;

use crate::{
    Shop,
    audit::{self, By, Change},
};

/// What a queue is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Nothing is claimed in it any more, for this reason.
    Paused {
        /// Why.
        reason: &'a str,
    },
    /// Its work goes on.
    Running {
        /// Why, if somebody says so.
        reason: Option<&'a str>,
    },
}

/// Pauses or resumes a queue; gives it as it is then, or `None` when there is none of this name.
///
/// All processes heed it within about a second. Pausing a paused queue changes the reason and who gave it.
///
/// # Errors
/// When the database refuses or is away.
pub async fn set(
    shop: &Shop,
    name: &str,
    wanted: Wanted<'_>,
    by: impl Into<By<'_>>,
) -> Result<Option<QueueView>, sqlx::Error> {
    let by = by.into();
    let engine = shop.engine();
    let Some(was) = find(shop, name).await? else { return Ok(None) };
    let (action, reason, pause) = match wanted {
        Wanted::Paused { reason } => ("queue.pause", Some(reason), Some(Pause { actor: by.actor, reason })),
        Wanted::Running { reason } => ("queue.resume", reason, None),
    };
    let mut transaction = shop.pool().begin().await?;
    let was_paused = engine.set_queue_in(&mut transaction, name, pause.as_ref()).await?;
    let change = Change::of(action, "queue", name)
        .because(reason)
        .before(json!({"paused": was_paused, "reason": was.reason}))
        .after(json!({"paused": pause.is_some(), "reason": pause.map(|pause| pause.reason)}));
    audit::record(&mut transaction, &by, &[change]).await?;
    transaction.commit().await?;
    engine.queue_was_set(name);
    find(shop, name).await
}

async fn find(shop: &Shop, name: &str) -> Result<Option<QueueView>, sqlx::Error> {
    Ok(shop.engine().queues().await?.into_iter().find(|queue| queue.name == name))
}
