//! Appends `workflow.dead` in the transaction that dead-letters a saga.

use engine::{DeadJobObserver, DeadLettered, StepError, Tx};
use serde_json::json;

use crate::support::outbox::{self, NewEvent};

/// Appends `workflow.dead` events; their key is the workflow's id.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadJobEvents;

impl DeadJobObserver for DeadJobEvents {
    async fn dead_lettered(&self, tx: &mut Tx<'_>, deaths: &[DeadLettered]) -> Result<(), StepError> {
        let events: Vec<NewEvent> = deaths.iter().map(event).collect();
        outbox::append(tx, &events).await?;
        Ok(())
    }
}

fn event(death: &DeadLettered) -> NewEvent {
    let payload = json!({
        "workflow_id": death.saga_id,
        "dead_job_id": death.dead_job_id,
        "definition": death.definition,
        "queue": death.queue,
        "step": death.step,
        "direction": death.direction,
        "attempts": death.attempts,
        "error": death.error,
    });
    NewEvent::new("workflow.dead", &death.saga_id, &payload)
}
