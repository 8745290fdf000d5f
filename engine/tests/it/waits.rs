//! Steps that wait: for a time, or for a signal.

mod builds;
mod cancels;
mod elsewhere;
mod senders;
mod signals;
mod sleeps;

use std::time::Duration;

use chrono::{DateTime, Utc};
use engine::{
    Batch, Definition, Engine, HistoryEntry, HistoryOutcome, NothingToUndo, Outcome, Outcomes, Saga, SagaId,
    SagaName, SignalName, Signalled, StepError, TransactionStep, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{self, Pack, TestInput};

/// Long enough for no test to reach it.
pub(super) const LONG: Duration = Duration::from_hours(72);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Approval {
    by: String,
}

impl Approval {
    pub(super) fn by(who: &str) -> Self {
        Self { by: who.into() }
    }
}

pub(super) const APPROVAL: SignalName<Approval> = SignalName::new("approval");

/// Says how the wait for the approval ended.
pub(super) struct Decide;

impl TransactionStep for Decide {
    const NAME: &'static str = "decide";
    type Input = Signalled<Approval>;
    type Output = String;
    type Undo = NothingToUndo;

    async fn run(
        &self,
        tx: &mut Tx<'_>,
        batch: &Batch<Signalled<Approval>>,
    ) -> Result<Outcomes<String>, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "decide", 1).await?;
        Ok(batch.decide(|item| {
            let approval = item.input.clone().received();
            Outcome::Done(approval.map_or("nobody".into(), |approval| approval.by))
        }))
    }
}

const APPROVED: SagaName<TestInput> = SagaName::new("approved");

/// Packs (with an undo), waits for an approval, and says who gave it.
fn approved() -> Definition {
    Saga::named(APPROVED)
        .then(Pack)
        .signal("await-approval", APPROVAL.within(LONG))
        .then(Decide)
        .build()
        .unwrap()
}

/// Waits until the saga waits at its step.
async fn waiting(pool: &PgPool, saga_id: SagaId) -> DateTime<Utc> {
    let query = format!(
        "select exists (select from engine.saga where id = '{saga_id}' and waits_for in ('sleep', 'signal') and due_at > now())"
    );
    fixtures::holds(pool, &query).await;
    sqlx::query_scalar("select wait_until from engine.saga where id = $1")
        .bind(saga_id.0)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// The outcomes of the steps, in order.
async fn done(engine: &Engine, saga_id: SagaId) -> Vec<(String, HistoryOutcome)> {
    history(engine, saga_id).await.into_iter().map(|entry| (entry.step, entry.outcome)).collect()
}

async fn history(engine: &Engine, saga_id: SagaId) -> Vec<HistoryEntry> {
    engine.history(saga_id).await.unwrap().unwrap()
}

/// What the last step said.
async fn said(engine: &Engine, saga_id: SagaId) -> String {
    let last = history(engine, saga_id).await.pop().unwrap();
    assert_eq!(last.step, "decide");
    last.output.unwrap().as_str().unwrap().to_owned()
}

async fn verified(engine: &Engine) {
    assert_eq!(engine.verify_histories(500).await.unwrap(), []);
}
