//! Creates dead jobs and calls the dead-job observer, in the transaction that dead-letters the sagas.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::{
    definition::tx::Tx,
    model::error_chain::ErrorChain,
    model::{dead_job::DeadLettered, error::StepError},
    runtime::effects::Session,
    store,
    support::user_code::run_user_code,
};

/// What a failing dead-job observer does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It aborts the transaction.
    Required,
    /// It is logged. The outcome of these sagas could not be written otherwise, perhaps because of the observer itself.
    BestEffort,
}

/// Creates a dead job for each of these sagas, which died in this transaction, and calls the dead-job observer.
pub(crate) async fn dead_letter(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    saga_ids: &[Uuid],
    notice: Notice,
) -> Result<(), StepError> {
    if saga_ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = saga_ids.iter().map(|_| Uuid::now_v7()).collect();
    let inserted = store::dead_jobs::insert(conn, &ids, saga_ids, &session.core.dead_job_ttls).await?;
    match notice {
        Notice::Required => notify(session, conn, &inserted).await,
        Notice::BestEffort => {
            let mut savepoint = conn.begin().await?;
            let mut inside = Session::new(session.core);
            match notify(&mut inside, &mut savepoint, &inserted).await {
                Ok(()) => {
                    savepoint.commit().await?;
                    session.effects.merge(inside.effects);
                }
                Err(error) => {
                    savepoint.rollback().await?;
                    tracing::error!(error = %ErrorChain(&error), "the dead-job observer failed; the sagas are dead-lettered without it");
                }
            }
            Ok(())
        }
    }
}

async fn notify(
    session: &mut Session<'_>,
    conn: &mut PgConnection,
    inserted: &[DeadLettered],
) -> Result<(), StepError> {
    let core = session.core;
    let Some(observer) = &core.dead_job_observer else { return Ok(()) };
    let mut tx = Tx::new(conn, session);
    match run_user_code(core.settings.batch_time_limit(), observer.dead_lettered(&mut tx, inserted)).await {
        Ok(notified) => notified,
        Err(failure) => {
            session.user_code.cancelled_mid_statement = true;
            Err(StepError::Other(format!("the dead-job observer {failure}")))
        }
    }
}
