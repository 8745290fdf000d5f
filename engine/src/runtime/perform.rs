//! What a worker does with a job: performs it and hands it to the group commit.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::Instrument;

use crate::{
    definition::step_answer::StepAnswer,
    model::{
        outcome::{Outcome, Retry},
        transition::MAX_LOST_ATTEMPTS,
    },
    runtime::{
        core::Core,
        job::{Committed, Job, Performed, PerformedKind},
        lease_updates,
        messages::{BatchMember, CommitRequest},
    },
    support::user_code::run_user_code,
};

/// Makes the call of a call step, unless the claim's lease has ended. A job of a transaction step needs nothing before
/// its batch.
pub(crate) async fn perform(core: &Core, job: &Job) -> Performed {
    let runs = job.is_call() && !job.interrupted && job.state.lost_attempts < MAX_LOST_ATTEMPTS;
    if !runs {
        return Performed::in_batch();
    }
    // Another process may have made the call by now.
    if !lease_updates::may_call(core, job).await {
        return Performed { kind: PerformedKind::NotCalled };
    }
    let started = Instant::now();
    let injected = core.faults.before_step(
        job.saga_id,
        &job.definition_name,
        &job.step,
        job.direction(),
        job.state.attempt,
    );
    let answer = match injected.answer {
        Some(outcome) => StepAnswer::Outcome(outcome),
        None => call(core, job).await.within(core.settings.max_payload, &job.step),
    };
    let crash = injected.crash;
    Performed { kind: PerformedKind::Called { answer, started, took: started.elapsed(), crash } }
}

async fn call(core: &Core, job: &Job) -> StepAnswer {
    let definition = &job.definition;
    let policy = definition.graph.policy(job.state.step_index, job.direction());
    let running = core.calls.begin(job);
    let mut invocation = job.invocation();
    invocation.call = Some(running.call.clone());
    invocation.idempotency_key_salt = core.faults.idempotency_key_salt(invocation.attempt);
    let span = core.step_span(
        job.saga_id,
        &job.definition_name,
        &job.step,
        job.direction(),
        job.attempt(),
        job.trace.as_deref(),
    );
    let call = definition.actions[job.state.step_index].call(job.direction(), &invocation);
    match run_user_code(policy.timeout, call.instrument(span)).await {
        Ok(answer) => answer,
        Err(failure) => {
            StepAnswer::Outcome(Outcome::Retry(Retry::message(format!("step `{}` {failure}", job.step))))
        }
    }
}

/// Sends a job to the group commit of its graph and waits for the result. The claim of a call that was not made is
/// released.
pub(crate) async fn commit(core: &Core, job: Job, performed: Performed) -> Committed {
    if matches!(performed.kind, PerformedKind::NotCalled) {
        tracing::warn!(saga.id = %job.saga_id, saga.epoch = job.epoch, "a lease ended before its call began; the \
        call is left to the next claim");
        lease_updates::release_unstarted(core, [job]);
        return Committed::Lost;
    }
    let Some(committer) = core.committers.get(&job.graph().hash) else { return Committed::Lost };
    let (reply, reply_rx) = oneshot::channel();
    let request = CommitRequest { member: BatchMember { job, performed }, reply };
    if let Err(rejected) = committer.send(request) {
        let member = rejected.0.member;
        if member.made_call() {
            lease_updates::abandon(core, member.job);
        } else {
            lease_updates::release_unstarted(core, [member.job]);
        }
        return Committed::Lost;
    }
    reply_rx.await.unwrap_or(Committed::Lost)
}
