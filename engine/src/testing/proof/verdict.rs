//! Looks at what has become of the sagas of a case.

use std::collections::BTreeMap;

use sqlx::PgPool;

use crate::{
    engine::Engine,
    model::{
        graph::{Graph, UNKNOWN_GRAPH},
        ids::SagaId,
        page::Page,
        status::{Direction, Status},
        views::{FinalStatus, HistoryEntry, HistoryOutcome, SagaFilter, SagaView},
    },
    operate::verify::check_history,
    store,
    testing::{
        invariants::history_violations,
        proof::{
            Proof, ProofError, Run, case::Kind, case_faults::is, case_run::CaseRun, plan::expected,
            report::Note,
        },
    },
};

/// The rows that each query gave that is to give them again, in order.
pub(super) type Rows = BTreeMap<String, Vec<String>>;

impl Proof {
    pub(super) async fn rows(&self, pool: &PgPool) -> Result<Rows, ProofError> {
        let mut rows = Rows::new();
        for query in &self.unchanged {
            rows.insert(query.clone(), store::testing::rows_of(pool, query).await?);
        }
        Ok(rows)
    }
}

impl CaseRun<'_> {
    /// Notes what does not hold, and returns the sagas.
    pub(super) async fn verdict(&mut self, before: &Rows) -> Result<Vec<SagaView>, ProofError> {
        let engine = self.outside()?;
        let looked_at = self.look_at_sagas(&engine).await;
        engine.shutdown().await;
        let sagas = looked_at?;
        self.note_signals().await?;
        let leftovers = self.faults.take_leftovers();
        self.notes.extend(leftovers.into_iter().map(Note::from));
        let have_compensated = sagas.iter().all(|saga| saga.status == Status::Compensated);
        if have_compensated && self.case.kind != Kind::ChildIsDiscarded {
            self.compare(before).await?;
        }
        Ok(sagas)
    }

    async fn look_at_sagas(&mut self, engine: &Engine) -> Result<Vec<SagaView>, ProofError> {
        let sagas = self.views().await?;
        let mut all_met = true;
        for saga in &sagas {
            let history = self.look_at(engine, saga).await?;
            let is_struck = self.is_struck(saga.saga_id);
            self.note_status(saga, &history);
            all_met &= !is_struck || self.was_met(&history);
            if self.case.kind == Kind::AnswerIsLost && !is_undone(&history, &self.case.step) {
                self.note(format!("`{}` may have happened, and was not undone", self.case.step));
            }
            if let Some(check) =
                self.proof.check.as_ref().filter(|_| self.case.kind != Kind::ChildIsDiscarded)
            {
                let final_status =
                    FinalStatus { status: saga.status, cause: saga.cause.clone(), result: None };
                let (case, saga_id, pool) = (self.case.clone(), saga.saga_id, self.pool.clone());
                let found = check(Run { case, saga_id, is_struck, final_status, pool, history }).await;
                self.notes.extend(found.err().map(Note::from));
            }
        }
        if !all_met {
            self.note(format!(
                "the fault at `{}` was never met, so this case proved nothing",
                self.case.step
            ));
        }
        Ok(sagas)
    }

    /// Checks the history of a saga, and of its children and theirs.
    async fn look_at(&mut self, engine: &Engine, saga: &SagaView) -> Result<Vec<HistoryEntry>, ProofError> {
        let mut history = Vec::new();
        let mut left = vec![saga.clone()];
        while let Some(one) = left.pop() {
            let entries = store::queries::history(&self.pool, one.saga_id.0).await?;
            let graph = engine.definition_of(&one.graph_hash).map_or(&UNKNOWN_GRAPH, |found| found.graph());
            self.notes.extend(history_violations(graph, &one, &entries).into_iter().map(Note::from));
            let violation = check_history(&engine.core, &self.pool, &one).await?;
            self.notes.extend(violation.map(|found| Note::from(found.violation)));
            let children = children(engine, graph, one.saga_id).await?;
            for child in &children {
                self.note_disagreement(&one, child);
            }
            left.extend(children);
            if one.saga_id == saga.saga_id {
                history = entries;
            }
        }
        Ok(history)
    }

    /// Notes a child that is not where its parent's end leaves it.
    fn note_disagreement(&mut self, parent: &SagaView, child: &SagaView) {
        let agrees = match parent.status {
            Status::Running | Status::Compensating | Status::Dead => true,
            Status::Completed => child.ended_at.is_some(),
            // One that an operator gave up is dead.
            Status::Compensated => {
                child.ended_at.is_some() && matches!(child.status, Status::Compensated | Status::Dead)
            }
        };
        if !agrees {
            let (definition, status) = (&child.definition, child.status);
            self.note(format!("the child `{definition}` of a saga that is {} is {status}", parent.status));
        }
    }

    fn note_status(&mut self, saga: &SagaView, history: &[HistoryEntry]) {
        let wanted = if self.is_struck(saga.saga_id) {
            expected(self.graph, &self.case, &self.deaths)
        } else {
            Some(Status::Completed)
        };
        if let Some(wanted) = wanted.filter(|wanted| saga.status != *wanted) {
            let what = format!("ended {} at `{}`, not {wanted}", saga.status, saga.step);
            self.notes.push(Note::with(what, summary(saga, history)));
        }
    }

    /// Whether the fault happened to the saga with this history.
    fn was_met(&self, history: &[HistoryEntry]) -> bool {
        let said_no = |entry: &HistoryEntry| {
            entry.step == self.case.step
                && matches!(
                    entry.outcome,
                    HistoryOutcome::Failed
                        | HistoryOutcome::Exhausted
                        | HistoryOutcome::Retry
                        | HistoryOutcome::Snoozed
                )
        };
        match self.case.kind {
            Kind::Nothing => true,
            Kind::ActionFails | Kind::ActionNeverWorks | Kind::ActionSaysNo => history.iter().any(said_no),
            Kind::CancelledThere
            | Kind::GraphChanges
            | Kind::GraphChangesThenCancelled
            | Kind::GraphIsUnknown => self.is_released(),
            Kind::ActionCrashesBeforeCommit
            | Kind::ActionCrashesAfterCommit
            | Kind::AnswerIsLost
            | Kind::SignalTimesOut
            | Kind::SignalComesEarly
            | Kind::SignalComesTwice
            | Kind::SignalComesLate
            | Kind::SignalRacesTimeOut
            | Kind::ChildFails
            | Kind::ChildDies
            | Kind::ChildIsDiscarded
            | Kind::ChildEndsUnheard
            | Kind::UndoCrashesBeforeCommit
            | Kind::UndoCrashesAfterCommit
            | Kind::UndoNeedsAPerson => is(&self.faults.met),
        }
    }

    /// Compares the rows that are to be the same as before the case.
    async fn compare(&mut self, before: &Rows) -> Result<(), ProofError> {
        let after = self.proof.rows(&self.pool).await?;
        for (query, after) in after {
            let before = before.get(&query).map(Vec::as_slice).unwrap_or_default();
            let difference = difference(before, &after);
            if !difference.is_empty() {
                let what = format!("compensated, but `{query}` is not as before");
                self.notes.push(Note::with(what, difference));
            }
        }
        Ok(())
    }
}

async fn children(engine: &Engine, graph: &Graph, parent: SagaId) -> Result<Vec<SagaView>, ProofError> {
    if !graph.steps.iter().any(|node| node.kind.has_children()) {
        return Ok(Vec::new());
    }
    let filter = SagaFilter { parent: Some(parent), ..SagaFilter::default() };
    Ok(engine.sagas(&filter, Page { after: None, limit: 1000 }).await?.items)
}

fn is_undone(history: &[HistoryEntry], step: &str) -> bool {
    history.iter().any(|entry| {
        entry.step == step && entry.direction == Direction::Undo && entry.outcome == HistoryOutcome::Done
    })
}

fn summary(saga: &SagaView, history: &[HistoryEntry]) -> String {
    let line = |entry: &HistoryEntry| format!("{} {} {}", entry.direction, entry.step, entry.outcome.name());
    let lines = history.iter().map(line).collect::<Vec<_>>().join(", ");
    saga.error.iter().fold(lines, |lines, error| format!("{lines}; {error}"))
}

/// How many rows of a difference are shown.
const SHOWN: usize = 5;

/// The rows that are only in one of two sorted lists, each with a sign; empty if there is none.
fn difference(before: &[String], after: &[String]) -> String {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in before {
        *counts.entry(row).or_default() -= 1;
    }
    for row in after {
        *counts.entry(row).or_default() += 1;
    }
    let rows: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(row, count)| format!("{} {row}", if count > 0 { '+' } else { '-' }))
        .collect();
    let more = rows.len().saturating_sub(SHOWN);
    let shown = rows.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more rows") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_two_lists_counts_rows_that_are_there_several_times() {
        let rows = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(difference(&rows("a b b"), &rows("b a b")), "");
        assert_eq!(difference(&rows("a b b"), &rows("b c")), "- a, - b, + c");
        assert_eq!(difference(&[], &rows("a b c d e f g")), "+ a, + b, + c, + d, + e and 2 more rows");
    }
}
