//! The transaction that a step works in.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use sqlx::PgConnection;

use crate::{
    engine::Core,
    model::{
        error::{StartError, StepError},
        ids::SagaId,
        views::FinalStatus,
    },
    runtime::{
        job::Job,
        start::start_sagas::{self, NewSaga, Started},
    },
};

/// The transaction that the engine opened for a batch. It derefs to [`PgConnection`], so that `&mut **tx` is what sqlx
/// wants; the engine alone commits it, with the sagas' moves in it.
pub struct Tx<'c> {
    pub(crate) conn: &'c mut PgConnection,
    pub(crate) core: &'c Core,
    pub(crate) after: CommitEffects,
    /// What became of user code in it.
    pub(crate) course: UserCodeState,
}

/// How far the user code of a transaction came.
#[derive(Debug, Default)]
pub(crate) struct UserCodeState {
    /// The server process of the connection, once a statement has told it.
    pub(crate) backend: Option<i32>,
    /// User code was dropped, perhaps in the middle of a statement that the server still works on.
    pub(crate) cancelled_mid_statement: bool,
}

/// What the rest of the process is told once the transaction is committed; dropped if it is not.
#[derive(Debug, Default)]
pub(crate) struct CommitEffects {
    /// Sagas started and claimed here.
    pub(crate) jobs: Vec<Job>,
    /// Sagas that became due and nobody here claimed, by queue.
    pub(crate) due: BTreeMap<String, Vec<SagaId>>,
    /// Sagas that came to rest.
    pub(crate) ended: Vec<(SagaId, FinalStatus)>,
    /// How many sagas began, by definition.
    pub(crate) started: Vec<(String, u64)>,
}

impl CommitEffects {
    /// Adds what a part of the transaction did.
    pub(crate) fn merge(&mut self, part: Self) {
        let Self { jobs, due, ended, started } = part;
        self.jobs.extend(jobs);
        for (queue, ids) in due {
            self.due.entry(queue).or_default().extend(ids);
        }
        self.ended.extend(ended);
        self.started.extend(started);
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(conn: &'c mut PgConnection, core: &'c Core) -> Self {
        Self { conn, core, after: CommitEffects::default(), course: UserCodeState::default() }
    }

    /// Starts sagas in this transaction: they exist if and only if it commits. Many are started with few statements.
    ///
    /// # Errors
    /// When one of them is refused, so that no step can lose a start by not looking.
    pub async fn start(&mut self, sagas: Vec<NewSaga>) -> Result<Vec<Started>, StepError> {
        let answers = start_sagas::start_and_claim(self, sagas).await?;
        answers
            .into_iter()
            .map(|answer| answer.map_err(|error: StartError| StepError::Start(Box::new(error))))
            .collect()
    }
}

impl Deref for Tx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.conn
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.conn
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
