//! The sagas whose rows can't be changed: a trigger or a constraint refuses the change, or the row is damaged. The
//! statements that change many sagas at once leave them out, and try them again after a pause that grows each time. So
//! the others go on at full speed, and a saga comes back by itself once its row is mended.
//!
//! A process remembers this in memory. If it forgets, it finds them again, at the cost of some statements.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use metrics::gauge;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    model::error_chain::ErrorChain,
    store::rows::Rows,
    support::{
        connection::concerns_everybody,
        metrics::QUARANTINED,
        parts::{Parts, Statement},
    },
};

/// How long a saga is first left out.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// How long after its pause a saga is forgotten that this process did not meet again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(3);
/// Upper bound of the sagas that are left out of one kind of work. Of more, the one whose pause ends first is forgotten.
const MAX_TRACKED: usize = 500;

/// What can't be done to a saga. Another may be possible all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Claim,
    /// Read the outputs of its steps, once it is claimed.
    Read,
    /// Extend its lease.
    Extend,
    /// Give its claim back.
    Release,
    /// Set it aside until a process knows its step.
    SetAside,
    /// Make it due because a process knows its step.
    Wake,
    /// Archive its dead job, or have it compensate because its deadline passed.
    Expire,
    /// Delete its dead job from the archive.
    Prune,
    /// Carry out what was requested for its dead job.
    Request,
}

impl Work {
    const ALL: [Self; 9] = [
        Self::Claim,
        Self::Read,
        Self::Extend,
        Self::Release,
        Self::SetAside,
        Self::Wake,
        Self::Expire,
        Self::Prune,
        Self::Request,
    ];

    /// The word under which metrics and logs name it.
    fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Read => "read",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::SetAside => "set-aside",
            Self::Wake => "wake",
            Self::Expire => "expire",
            Self::Prune => "prune",
            Self::Request => "request",
        }
    }
}

/// The sagas that are left out, by what can't be done to them.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    known: Mutex<HashMap<(Work, Uuid), Refused>>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    pause: Duration,
    until: Instant,
}

/// What became of a statement that finds the rows to change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It succeeded at once.
    Whole,
    /// It had to be run in parts. There may be more rows to be found.
    InParts,
}

impl Quarantine {
    /// The sagas that are left out of this work now. What can't be read is not claimed either, nor is a saga whose lease
    /// can't be extended, because this process may still work on it.
    pub(crate) fn resting(&self, work: Work) -> Vec<Uuid> {
        let known = self.known.lock();
        if known.is_empty() {
            return Vec::new();
        }
        let now = Instant::now();
        let concerns =
            |of: Work| of == work || (work == Work::Claim && matches!(of, Work::Read | Work::Extend));
        let resting = known.iter().filter(|((of, _), refused)| concerns(*of) && refused.until > now);
        resting.map(|((_, id), _)| *id).collect()
    }

    /// Records that this work was refused for a saga, and names it in the log the first time.
    pub(crate) fn refuse(&self, work: Work, id: Uuid, error: &dyn std::error::Error) {
        let now = Instant::now();
        let mut known = self.known.lock();
        let pause = match known.get(&(work, id)) {
            Some(refused) => (refused.pause * 2).min(MAX_PAUSE),
            None => FIRST_PAUSE,
        };
        let of_work = known.iter().filter(|((of, _), _)| *of == work);
        if pause == FIRST_PAUSE
            && of_work.clone().count() >= MAX_TRACKED
            && let Some(first) = of_work.min_by_key(|(_, refused)| refused.until).map(|(key, _)| *key)
        {
            known.remove(&first);
        }
        known.insert((work, id), Refused { pause, until: now + pause });
        drop(known);
        if pause == FIRST_PAUSE {
            tracing::error!(
                saga.id = %id, work = work.name(), error = %ErrorChain(&error),
                "what has to be done to a saga fails for it alone; it is left out and tried again later, the others go on"
            );
        } else {
            tracing::debug!(saga.id = %id, work = work.name(), error = %ErrorChain(&error), "what has to be done to a saga still fails");
        }
    }

    /// Records that this work was done for these sagas.
    pub(crate) fn accept(&self, work: Work, ids: impl IntoIterator<Item = Uuid>) {
        let mut known = self.known.lock();
        if known.is_empty() {
            return;
        }
        for id in ids {
            if known.remove(&(work, id)).is_some() {
                tracing::info!(saga.id = %id, work = work.name(), "what has to be done to a saga succeeds again");
            }
        }
    }

    /// Has this work tried at once for all sagas, as the last time before the process stops.
    pub(crate) fn end_pauses(&self, work: Work) {
        let now = Instant::now();
        let mut known = self.known.lock();
        for (_, refused) in known.iter_mut().filter(|((of, _), _)| *of == work) {
            refused.until = now;
        }
    }

    /// Forgets sagas that this process did not meet again, and reports how many there are.
    pub(crate) fn report(&self) {
        let now = Instant::now();
        let mut known = self.known.lock();
        known.retain(|_, refused| now.saturating_duration_since(refused.until) < FORGOTTEN_AFTER);
        for work in Work::ALL {
            let count = known.keys().filter(|(of, _)| *of == work).count();
            gauge!(QUARANTINED, "work" => work.name())
                .set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
    }

    /// Remembers what parts have found out.
    pub(crate) fn judge<T, R>(
        &self,
        work: Work,
        parts: &Parts<'_, T, R>,
        id_of: impl Fn(&T) -> Uuid,
        done: impl IntoIterator<Item = Uuid>,
    ) {
        self.accept(work, done);
        for (item, error) in &parts.refused {
            self.refuse(work, id_of(item), error);
        }
    }

    /// Runs a statement that finds the rows to change by itself. It leaves out those in quarantine, and if it fails
    /// because of some rows, it is run in parts.
    pub(crate) async fn change_found(
        &self,
        work: Work,
        mut statement: impl FindingStatement + Send,
    ) -> Result<Found, sqlx::Error> {
        let resting = self.resting(work);
        let rows = Rows::all_but(&resting);
        let error = match statement.change(rows).await {
            Ok(changed) => {
                self.accept(work, changed);
                return Ok(Found::Whole);
            }
            Err(error) => error,
        };
        if concerns_everybody(&error) {
            return Err(error);
        }
        tracing::debug!(work = work.name(), error = %ErrorChain(&error), "a statement for many sagas failed; trying parts of them");
        let found = statement.find(rows).await?;
        if found.is_empty() {
            return Err(error);
        }
        let mut parts = Parts::of(&found);
        let result = parts.run(Only(statement)).await;
        self.judge(work, &parts, |id| *id, parts.done.iter().copied());
        match result {
            Err(error) if parts.done.is_empty() => Err(error),
            Ok(()) | Err(_) => Ok(Found::InParts),
        }
    }
}

/// A statement that finds the rows to change by itself.
pub(crate) trait FindingStatement {
    /// Changes what it finds of these rows, and returns the ids of what it changed.
    fn change(&mut self, rows: Rows<'_>) -> impl Future<Output = Result<Vec<Uuid>, sqlx::Error>> + Send;

    /// The ids of what it would find of these rows.
    fn find(&mut self, rows: Rows<'_>) -> impl Future<Output = Result<Vec<Uuid>, sqlx::Error>> + Send;
}

/// The same statement for rows that are known.
struct Only<S>(S);

impl<S: FindingStatement + Send> Statement<Uuid> for Only<S> {
    type Row = Uuid;

    async fn run(&mut self, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
        self.0.change(Rows::Only(ids)).await
    }
}
