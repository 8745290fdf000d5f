//! Finds, for tests, batch steps that write rows and answer with a no all the same.

use sqlx::PgConnection;

use crate::{
    definition::{invocation::Invocation, step_answer::StepAnswer},
    runtime::{effects::Session, step_run::StepRun},
    store,
    support::faults::FaultPoint,
};

/// The number of rows that the transaction has written so far, if a test wants to know.
pub(super) async fn writes(
    session: &Session<'_>,
    conn: &mut PgConnection,
) -> Result<Option<i64>, sqlx::Error> {
    if !session.core.faults.looks_for_leftovers() {
        return Ok(None);
    }
    store::testing::writes(conn).await.map(Some)
}

/// Reports a step that wrote rows since `before` although every answer is a no. If only some are, it can't be told for
/// which items it wrote.
pub(super) async fn report(
    session: &Session<'_>,
    conn: &mut PgConnection,
    run: StepRun<'_>,
    (invocations, answers): (&[Invocation], &[StepAnswer]),
    before: Option<i64>,
) -> Result<(), sqlx::Error> {
    let Some(before) = before.filter(|_| answers.iter().all(StepAnswer::is_no)) else { return Ok(()) };
    if store::testing::writes(conn).await? != before {
        let graph = &run.definition.graph;
        let point = FaultPoint {
            definition: graph.name.clone(),
            step: graph.steps[run.side.step_index].name.clone(),
            direction: run.side.direction,
        };
        for invocation in invocations {
            session.core.faults.left_behind(invocation.saga_id, &point);
        }
    }
    Ok(())
}
