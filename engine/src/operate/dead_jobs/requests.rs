//! Actions on dead jobs that wait for a process with the code of their sagas: stored by a process that lacks it, carried
//! out by one that has it.
//!
//! A request is carried out in one transaction, which locks the saga before its dead job, as everywhere. If it is
//! refused then, the refusal stands on the dead job in its place. It is void once the dead job is resolved in another
//! way.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Act, DeadJobAction, DiscardMode, act};
use crate::{
    engine::Engine,
    model::{
        audit::Operator, dead_job_request::DeadJobOutcome, error::DeadJobError, error_chain::ErrorChain,
        ids::DeadJobId, nul_character::replace_nul, outcome::chain,
    },
    operate::decision::LoadedSaga,
    runtime::{
        core::Core,
        effects::{self, CommitEffects},
        quarantine::Work,
    },
    store::{
        self,
        audit::{AuditEntry, AuditReason},
        dead_job_requests::{NewRequest, StoredRequest},
    },
    support::{
        connection::{self, Blame, blame_in_engine, concerns_everybody},
        jitter::jittered,
        user_code::{UserCodeFailure, run_user_code},
    },
};

/// How often a process looks for requests, with jitter.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many one query finds.
const BATCH_SIZE: u16 = 256;
/// How long a statement may wait for a lock besides that of the saga.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The time limit of one request, with the observer that it tells.
const LIMIT: Duration = Duration::from_secs(10);
/// The time limit of the connection on which it is carried out.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Engine {
    /// Carries out what operators asked for on dead jobs through processes that lack their code, as far as this process
    /// has it; returns how many were carried out. A process does this by itself every five seconds, and any number of
    /// them may at once.
    ///
    /// # Errors
    /// When the database can't be reached; those that were carried out before that stay so.
    pub async fn carry_out_requests(&self) -> Result<u32, sqlx::Error> {
        carry_out_all(&self.core).await
    }
}

/// Carries requests out until the engine stops.
pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(jittered(INTERVAL)) => {}
        }
        if core.faults.is_crashed() {
            return;
        }
        if let Err(error) = carry_out_all(&core).await {
            tracing::warn!(error = %ErrorChain(&error), "can't carry out requests for dead jobs now; trying again later");
        }
    }
}

/// Stores what an operator asked for with a dead job that the caller has locked, after its saga. A request that asks for
/// the same stands; another one is replaced.
pub(super) async fn put(
    conn: &mut PgConnection,
    saga: &LoadedSaga,
    (id, earlier): (DeadJobId, Option<&Value>),
    Act { action, by, reason, .. }: Act<'_>,
) -> Result<(), sqlx::Error> {
    if earlier.and_then(stored).is_some_and(|earlier| earlier.request.action == action) {
        return Ok(());
    }
    let (graph_hash, context) = (saga.row.graph_hash.as_str(), by.context.as_ref());
    let request = NewRequest { graph_hash, action, by: by.actor, reason, context };
    store::dead_job_requests::put(conn, id.0, &request).await?;
    let (before, mut after) = (saga.audit_json(), saga.audit_json());
    after["requested"] = true.into();
    let action = match action {
        DeadJobAction::Retry => "retry",
        DeadJobAction::Discard(DiscardMode::Safe) => "discard",
        DeadJobAction::Discard(DiscardMode::Force) => {
            after["force"] = true.into();
            "discard"
        }
    };
    let request = AuditReason { by, action, reason };
    let entry = AuditEntry { request, saga_id: saga.saga_id, dead_job_id: Some(id.0), before, after };
    store::audit::record(conn, &entry).await
}

/// Decodes a request; `None` if a newer version stored it in another form.
fn stored(request: &Value) -> Option<StoredRequest> {
    StoredRequest::deserialize(request).ok()
}

/// Carries out all requests of the graphs that this process knows, and returns how many.
async fn carry_out_all(core: &Core) -> Result<u32, sqlx::Error> {
    let (mut carried_out, mut after) = (0, Uuid::nil());
    while !core.hashes.is_empty() && !core.stop.is_cancelled() {
        let limit = i64::from(BATCH_SIZE);
        let found = store::dead_job_requests::open(&core.pool, &core.hashes, after, limit).await?;
        let Some(&(last, _)) = found.last() else { break };
        after = last;
        let resting = core.quarantine.resting(Work::Request);
        for &(id, saga_id) in found.iter().filter(|(_, saga_id)| !resting.contains(saga_id)) {
            if carry_out(core, DeadJobId(id), saga_id).await? {
                carried_out += 1;
            }
        }
        if found.len() < usize::from(BATCH_SIZE) {
            break;
        }
    }
    Ok(carried_out)
}

/// Carries out one request; whether it is done now. One that fails for itself alone is refused, or rests if the failure
/// may pass.
///
/// # Errors
/// When the failure concerns everybody.
async fn carry_out(core: &Core, id: DeadJobId, saga_id: Uuid) -> Result<bool, sqlx::Error> {
    let (request, failure) = match try_to(core, id, saga_id).await {
        Ok(Attempt::CarriedOut(after)) => {
            core.quarantine.accept(Work::Request, [saga_id]);
            effects::publish(core, after);
            return Ok(true);
        }
        Ok(Attempt::Left) => return Ok(false),
        Ok(Attempt::Failed { request, failure }) => (request, failure),
        Err(error) if concerns_everybody(&error) => return Err(error),
        // Of the row of the dead job.
        Err(error) => {
            core.quarantine.refuse(Work::Request, saga_id, &error);
            return Ok(false);
        }
    };
    let why = match failure {
        Failure::Refused(DeadJobError::Database(error)) => match blame_in_engine(&error) {
            Blame::Connection | Blame::Server => return Err(error),
            Blame::Lock | Blame::Unclear => {
                core.quarantine.refuse(Work::Request, saga_id, &error);
                return Ok(false);
            }
            Blame::Statement => chain(&error).join(": "),
        },
        Failure::Refused(error) => error.to_string(),
        Failure::TimedOut(error) => {
            core.quarantine.refuse(Work::Request, saga_id, &error);
            return Ok(false);
        }
        Failure::Panicked(panicked) => format!("the saga's owner {panicked}"),
    };
    tracing::warn!(dead_job.id = %id, saga.id = %saga_id, why, "what was requested for a dead job is refused");
    let refused = connection::with_timeout(&core.pool, TIMEOUT, async |conn| {
        store::dead_job_requests::refuse(conn, id.0, &request, &replace_nul(why)).await
    });
    match refused.await {
        Err(error) if !concerns_everybody(&error) => core.quarantine.refuse(Work::Request, saga_id, &error),
        refused => refused?,
    }
    Ok(false)
}

/// What became of the attempt to carry a request out.
enum Attempt {
    CarriedOut(CommitEffects),
    /// Another transaction holds the saga, or there is no request any more that this version can read.
    Left,
    Failed {
        request: Value,
        failure: Failure,
    },
}

enum Failure {
    Refused(DeadJobError),
    /// The observer gave no answer.
    TimedOut(sqlx::Error),
    Panicked(UserCodeFailure),
}

/// Tries to carry out one request, in a transaction of its own.
async fn try_to(core: &Core, id: DeadJobId, saga_id: Uuid) -> Result<Attempt, sqlx::Error> {
    let mut hung = None;
    let attempt = connection::with_timeout(&core.pool, TIMEOUT, async |conn| {
        let mut transaction = sqlx::Connection::begin(&mut **conn).await?;
        store::commits::bound_lock_waits(&mut transaction, LOCK_WAIT).await?;
        if !store::archive::lock_saga(&mut transaction, saga_id).await? {
            return Ok(Attempt::Left);
        }
        let job = store::dead_jobs::lock(&mut transaction, id.0).await?;
        let Some(request) = job.filter(|job| job.resolution.is_none()).and_then(|job| job.request) else {
            return Ok(Attempt::Left);
        };
        let Some(StoredRequest { request: asked, context }) = stored(&request) else {
            return Ok(Attempt::Left);
        };
        let by = Operator { actor: &asked.by, context };
        let asked = Act { action: asked.action, planned: None, by: &by, reason: &asked.reason };
        let done = run_user_code(LIMIT, async {
            let done = act(core, &mut transaction, id, asked).await?;
            transaction.commit().await?;
            Ok(done)
        });
        match done.await {
            Ok(Ok((DeadJobOutcome::Done(_), after))) => Ok(Attempt::CarriedOut(after)),
            Ok(Ok((DeadJobOutcome::Requested(_), _))) => Ok(Attempt::Left),
            Ok(Err(error)) => Ok(Attempt::Failed { request, failure: Failure::Refused(error) }),
            Err(UserCodeFailure::TimedOut(_)) => {
                // The server may still execute a statement, so the connection is dropped.
                hung = Some(request);
                Err(connection::timed_out("the saga's owner gave no answer in time"))
            }
            Err(panicked @ UserCodeFailure::Panicked(_)) => {
                Ok(Attempt::Failed { request, failure: Failure::Panicked(panicked) })
            }
        }
    })
    .await;
    match (attempt, hung) {
        (Err(error), Some(request)) => Ok(Attempt::Failed { request, failure: Failure::TimedOut(error) }),
        (attempt, _) => attempt,
    }
}
