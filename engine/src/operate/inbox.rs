//! Delivers cancels that were noted while another transaction held their saga.
//!
//! A batch that locks the saga afterwards reads its messages itself. What is left is for this task: sagas that no
//! worker holds, and those that passed their pivot, or ended, in the very transaction that held them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    engine::Engine,
    model::error_chain::ErrorChain,
    model::{
        error::{CancelError, StepError},
        ids::SagaId,
        pending_cancel::{IfLate, PendingCancel},
    },
    operate::{
        cancel::{CancelEffect, compensate, effect_of, has_pivot_signal},
        decision::LoadedSaga,
    },
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
    },
    store::{self, decisions::SagaLock, inbox::CancelMessage},
    support::{
        connection::{self, Blame, blame, concerns_everybody},
        jitter::jittered,
    },
};

/// How often a process looks for messages that nobody has acted on, with jitter.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon it looks again for messages to sagas that are still locked; the pause doubles up to [`INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// How many sagas one query finds.
const BATCH_SIZE: u16 = 256;
/// How long a statement may wait for a lock besides that of the saga.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The time limit of one delivery.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// For how long the oldest cancel that was noted has been waiting for its saga; zero if none is.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn oldest_noted_cancel(&self) -> Result<Duration, sqlx::Error> {
        let secs = store::inbox::oldest_unread_secs(self.pool()).await?;
        Ok(Duration::try_from_secs_f64(secs).unwrap_or_default())
    }
}

/// Delivers until the engine stops.
pub(crate) async fn run(core: Arc<Core>) {
    let mut failing = BTreeSet::new();
    let mut pause = jittered(INTERVAL);
    loop {
        let woken = tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.inbox_wakeup.notified() => true,
            () = tokio::time::sleep(pause) => false,
        };
        pause = match deliver_all(&core, &mut failing).await {
            Ok(Round::Done) => jittered(INTERVAL),
            Ok(Round::SomeLocked) if woken => FIRST_RETRY,
            Ok(Round::SomeLocked) => (pause * 2).min(INTERVAL),
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "can't deliver cancels now; trying again later");
                jittered(INTERVAL)
            }
        };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Done,
    /// Other transactions hold some of the sagas.
    SomeLocked,
}

/// Delivers all unread cancels. Those that failed are logged once, and tried again in every round.
async fn deliver_all(core: &Core, failing: &mut BTreeSet<Uuid>) -> Result<Round, sqlx::Error> {
    let (mut round, mut after) = (Round::Done, Uuid::nil());
    let mut still_failing = BTreeSet::new();
    while !core.stop.is_cancelled() {
        let found = store::inbox::addressees(&core.pool, &core.hashes, after, i64::from(BATCH_SIZE)).await?;
        let Some(&last) = found.last() else { break };
        after = last;
        for &id in &found {
            match deliver(core, SagaId(id)).await {
                Ok(Delivery::Delivered(after)) => effects::publish(core, after),
                Ok(Delivery::Left) => {}
                Ok(Delivery::Locked) => round = Round::SomeLocked,
                Err(StepError::Database(error)) if concerns_everybody(&error) => return Err(error),
                // Of a row that the saga's observer wants.
                Err(StepError::Database(error)) if blame(&error) == Blame::Lock => round = Round::SomeLocked,
                Err(error) => {
                    if !failing.contains(&id) {
                        tracing::error!(saga.id = %id, error = %ErrorChain(&error), "a noted cancel can't be \
                        delivered; trying again");
                    }
                    still_failing.insert(id);
                }
            }
        }
        if found.len() < usize::from(BATCH_SIZE) {
            break;
        }
    }
    *failing = still_failing;
    Ok(round)
}

/// What became of the messages to one saga.
enum Delivery {
    Delivered(CommitEffects),
    /// The worker that holds the saga, or a process that knows its graph, will read them.
    Left,
    /// Another transaction holds the saga.
    Locked,
}

/// Delivers the messages to one saga, in a transaction of its own.
async fn deliver(core: &Core, saga_id: SagaId) -> Result<Delivery, StepError> {
    connection::with_timeout(&core.pool, TIMEOUT, async |conn| {
        let mut transaction = sqlx::Connection::begin(&mut **conn).await?;
        store::commits::bound_lock_waits(&mut transaction, LOCK_WAIT).await?;
        if !store::archive::lock_saga(&mut transaction, saga_id.0).await? {
            return Ok(Ok(Delivery::Locked));
        }
        match deliver_in(core, &mut transaction, saga_id).await {
            Ok(delivery) => {
                transaction.commit().await?;
                Ok(Ok(delivery))
            }
            Err(error) => Ok(Err(error)),
        }
    })
    .await?
}

async fn deliver_in(core: &Core, conn: &mut PgConnection, saga_id: SagaId) -> Result<Delivery, StepError> {
    let messages = store::inbox::unread_cancels(conn, &[saga_id.0]).await?;
    let row = store::decisions::load(conn, saga_id.0, SagaLock::Wait).await?;
    let has_ended = row.as_ref().is_some_and(|row| row.ended);
    let Some((first, row)) = first_that_counts(&messages, has_ended).zip(row) else {
        return Ok(Delivery::Left);
    };
    let saga = LoadedSaga::new(core, conn, saga_id, row).await?;
    if !saga.is_registered() {
        return Ok(Delivery::Left);
    }
    let ids: Vec<i64> = messages.iter().map(|message| message.id).collect();
    match effect_of(first, &saga) {
        Ok(CancelEffect::Compensates(_)) if saga.row.leased => {
            // So that its worker makes no call before it follows.
            if !saga.row.cancel_requested {
                store::decisions::request_cancel(conn, saga_id.0, first).await?;
            }
            Ok(Delivery::Left)
        }
        Ok(CancelEffect::Compensates(_)) if has_pivot_signal(conn, &saga).await? => {
            // The worker that takes the signal reads the cancel, too.
            core.nudges.add([saga_id.0]);
            Ok(Delivery::Left)
        }
        Ok(CancelEffect::Compensates(state)) => {
            let after = compensate(core, conn, &saga, state, first, None).await.map_err(step_error)?;
            store::inbox::settle(conn, &ids, &[]).await?;
            Ok(Delivery::Delivered(after))
        }
        Ok(CancelEffect::LeftToOthers) => Ok(Delivery::Left),
        Ok(CancelEffect::None) => {
            store::inbox::settle(conn, &ids, &[]).await?;
            Ok(Delivery::Delivered(CommitEffects::default()))
        }
        Err(_too_late) => {
            let after = match told(&messages) {
                Some(cancel) => saga.tell_late(core, conn, cancel).await?,
                None => CommitEffects::default(),
            };
            store::inbox::settle(conn, &[], &ids).await?;
            Ok(Delivery::Delivered(after))
        }
    }
}

/// The cancel that decides: the oldest, but a saga that has ended follows only that of its parent.
fn first_that_counts(messages: &[CancelMessage], has_ended: bool) -> Option<&PendingCancel> {
    let mut cancels = messages.iter().map(|message| &message.payload.0);
    let of_parent = cancels.clone().find(|cancel| cancel.is_of_parent());
    of_parent.filter(|_| has_ended).or_else(|| cancels.next())
}

/// The cancel of which the observer is told if it is late.
fn told(messages: &[CancelMessage]) -> Option<&PendingCancel> {
    messages.iter().map(|message| &message.payload.0).find(|cancel| cancel.if_late() == IfLate::Tell)
}

fn step_error(error: CancelError) -> StepError {
    match error {
        CancelError::Database(error) => StepError::Database(error),
        other @ (CancelError::NotFound(_)
        | CancelError::PastPivot { .. }
        | CancelError::Ended(_)
        | CancelError::RefusedByObserver(_)) => StepError::Other(other.to_string()),
    }
}
