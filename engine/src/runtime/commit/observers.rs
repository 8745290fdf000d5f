//! Calls the observers of the sagas of a batch, in its transaction.

use std::{collections::BTreeMap, sync::Arc};

use sqlx::PgConnection;

use crate::{
    definition::{
        observer::{LateCancel, StatusChange},
        saga::Definition,
        tx::Tx,
    },
    model::status::StepSide,
    runtime::{
        commit::{
            cursor::SagaCursor,
            error::{CommitError, classify},
        },
        effects::Session,
    },
    support::{metrics::LATE_CANCELS, user_code::run_user_code},
};

/// Calls the observers of the sagas that ended or died, and of those that have late cancels. `last` is the side of the
/// step that ran last.
pub(super) async fn notify_observers(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    cursors: &[SagaCursor<'_>],
    last: Option<StepSide>,
) -> Result<(), CommitError> {
    let changes = by_definition(cursors, |cursor| {
        let input = cursor.values.input().filter(|_| cursor.came_to_rest)?;
        Some(StatusChange {
            saga_id: cursor.job.saga_id,
            input: input.json().clone(),
            status: cursor.state.status,
            cause: cursor.state.cause.clone(),
            result: cursor.result.as_ref().map(|result| result.json().clone()),
            error: cursor.error.clone(),
        })
    });
    for (definition, changes) in changes {
        notify(session, conn, definition, Told::Changes(&changes), last).await?;
    }
    let late = by_definition(cursors, |cursor| {
        let (told, input) = cursor.cancels.told().zip(cursor.values.input())?;
        Some(LateCancel {
            saga_id: cursor.job.saga_id,
            input: input.json().clone(),
            status: cursor.state.status,
            actor: told.actor.clone(),
            reason: told.reason.clone(),
        })
    });
    for (definition, late) in late {
        notify(session, conn, definition, Told::LateCancels(&late), last).await?;
        metrics::counter!(LATE_CANCELS, "definition" => definition.graph.name.clone())
            .increment(late.len() as u64);
    }
    Ok(())
}

/// Collects what the observer of each definition is told.
fn by_definition<'a, T>(
    cursors: &[SagaCursor<'a>],
    told: impl Fn(&SagaCursor<'a>) -> Option<T>,
) -> Vec<(&'a Arc<Definition>, Vec<T>)> {
    let mut by_definition: BTreeMap<&str, (&Arc<Definition>, Vec<T>)> = BTreeMap::new();
    for cursor in cursors {
        let definition = cursor.definition;
        if definition.observer.is_some()
            && let Some(one) = told(cursor)
        {
            let (_, all) =
                by_definition.entry(&definition.graph.hash).or_insert_with(|| (definition, Vec::new()));
            all.push(one);
        }
    }
    by_definition.into_values().collect()
}

/// What an observer is told.
#[derive(Clone, Copy)]
enum Told<'a> {
    Changes(&'a [StatusChange]),
    LateCancels(&'a [LateCancel]),
}

/// Calls an observer under a time limit.
async fn notify(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    definition: &Definition,
    told: Told<'_>,
    last: Option<StepSide>,
) -> Result<(), CommitError> {
    let Some(observer) = &definition.observer else { return Ok(()) };
    let limit = session.core.settings.batch_time_limit();
    let mut tx = Tx::new(conn, session);
    let call = match told {
        Told::Changes(changes) => observer.status_changed(&mut tx, changes),
        Told::LateCancels(late) => observer.cancelled_too_late(&mut tx, late),
    };
    match run_user_code(limit, call).await {
        Ok(notified) => notified.map_err(|error| classify(error, last)),
        Err(failure) => {
            let error = vec![format!("the observer of `{}` {failure}", definition.graph.name)];
            Err(CommitError::Step { side: last, error, cancelled_mid_statement: true })
        }
    }
}
