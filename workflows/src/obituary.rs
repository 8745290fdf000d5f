//! Tells the world, in the commit that parks a saga, that a person is needed.

use engine::{Death, DeathWatch, StepSetError, Tx};
use serde_json::json;

use crate::outbox::{self, Event};

/// Writes `workflow.dead` events; their key is the workflow's id.
#[derive(Clone, Copy, Debug, Default)]
pub struct Obituary;

impl DeathWatch for Obituary {
    async fn died(&self, tx: &mut Tx<'_>, deaths: &[Death]) -> Result<(), StepSetError> {
        let events: Vec<Event> = deaths.iter().map(event).collect();
        outbox::append(tx, &events).await?;
        Ok(())
    }
}

fn event(death: &Death) -> Event {
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
    Event::new("workflow.dead", &death.saga_id, &payload)
}
