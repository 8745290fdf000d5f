//! Replays a stored history through the pure transition function, to check that it leads to the stored state.

use crate::model::{
    arms::Arm,
    cause::{CancelOrigin, Cause},
    graph::Graph,
    outcome::{Counts, Failure},
    transition::{Event, State, transition},
    views::{HistoryEntry, HistoryOutcome},
};

/// Returns the state to which a history leads. `cause` is the stored one, because the history has only a failure's
/// sentence, not its details.
///
/// # Errors
/// A sentence about the first entry that is not a legal transition.
pub(crate) fn replay(
    graph: &Graph,
    history: &[HistoryEntry],
    cause: Option<&Cause>,
) -> Result<State, String> {
    let mut state = State::initial();
    for entry in history {
        let at = graph.steps.get(state.step_index).map_or("", |node| node.name.as_str());
        if (entry.step.as_str(), entry.direction) != (at, state.direction) {
            return Err(format!(
                "entry {} is about the {} of `{}`, but the saga stood at the {} of `{at}`",
                entry.seq, entry.direction, entry.step, state.direction
            ));
        }
        let event = event(graph, &state, entry, cause)?;
        (state, _) = transition(graph, &state, &event)
            .map_err(|refusal| format!("entry {} ({}): {refusal}", entry.seq, entry.outcome.name()))?;
    }
    Ok(state)
}

fn event(graph: &Graph, state: &State, entry: &HistoryEntry, cause: Option<&Cause>) -> Result<Event, String> {
    let failure = || match cause {
        Some(Cause::Failed { failure, .. }) => failure.clone(),
        Some(Cause::Cancelled { .. } | Cause::DeadlinePassed | Cause::Parent { .. } | Cause::Other(_))
        | None => Failure::new("unknown", "unknown"),
    };
    let chooses = graph.steps.get(state.step_index).is_some_and(|node| node.choice.is_some());
    Ok(match entry.outcome {
        HistoryOutcome::Started => Event::AttemptStarted,
        HistoryOutcome::Done if chooses => Event::Chosen(arm(entry)?),
        HistoryOutcome::Done => Event::Done,
        HistoryOutcome::Opened => Event::Opened,
        HistoryOutcome::Retry => Event::Retry(Counts::Attempt),
        HistoryOutcome::Snoozed => Event::Retry(Counts::Snooze),
        HistoryOutcome::Failed => Event::Failed(failure()),
        HistoryOutcome::Lost => Event::Lost,
        HistoryOutcome::DeadLettered => Event::DeadLettered,
        HistoryOutcome::Exhausted => Event::Exhausted(failure()),
        HistoryOutcome::Cancelled => match cause {
            Some(Cause::Cancelled { actor, reason, origin }) => {
                Event::Cancel { actor: actor.clone(), reason: reason.clone(), origin: *origin }
            }
            Some(Cause::Parent { saga_id, cause }) => {
                Event::ParentCompensates { saga: *saga_id, cause: (**cause).clone() }
            }
            Some(Cause::Failed { .. } | Cause::DeadlinePassed | Cause::Other(_)) | None => {
                Event::Cancel { actor: String::new(), reason: String::new(), origin: CancelOrigin::Requested }
            }
        },
        HistoryOutcome::DeadlinePassed => Event::DeadlinePassed,
        HistoryOutcome::Retried => Event::Retried,
        HistoryOutcome::Discarded => Event::Discarded,
        HistoryOutcome::Unknown => return Err("a newer version recorded it".into()),
    })
}

/// The arm that a choice's entry holds.
fn arm(entry: &HistoryEntry) -> Result<Arm, String> {
    let stored = entry.output.as_ref().and_then(serde_json::Value::as_str);
    let arm = stored.and_then(|stored| stored.parse().ok());
    arm.ok_or_else(|| format!("entry {} names no arm of the choice `{}`", entry.seq, entry.step))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::{
        status::Status,
        transition::tests::{events, graphs},
    };

    /// The entry that an event leaves in the history; none if it leaves none.
    fn entry(graph: &Graph, state: &State, event: &Event, seq: i32) -> Option<HistoryEntry> {
        let outcome = match event {
            Event::AttemptStarted | Event::Released | Event::Waiting => return None,
            Event::Done | Event::Chosen(_) => HistoryOutcome::Done,
            Event::Opened => HistoryOutcome::Opened,
            Event::Retry(Counts::Attempt) => HistoryOutcome::Retry,
            Event::Retry(Counts::Snooze) => HistoryOutcome::Snoozed,
            Event::Lost => HistoryOutcome::Lost,
            Event::Exhausted(_) => HistoryOutcome::Exhausted,
            Event::Failed(_) => HistoryOutcome::Failed,
            Event::Cancel { .. } | Event::ParentCompensates { .. } => HistoryOutcome::Cancelled,
            Event::DeadlinePassed => HistoryOutcome::DeadlinePassed,
            Event::DeadLettered => HistoryOutcome::DeadLettered,
            Event::Retried => HistoryOutcome::Retried,
            Event::Discarded => HistoryOutcome::Discarded,
        };
        let output = match event {
            Event::Chosen(arm) => Some(Value::from(arm.name())),
            _ => None,
        };
        Some(HistoryEntry {
            seq,
            step: graph.steps[state.step_index].name.clone(),
            direction: state.direction,
            outcome,
            attempt: state.attempt,
            started_at: DateTime::UNIX_EPOCH,
            duration_ms: 0,
            output,
            error: Vec::new(),
            details: None,
            worker: None,
            epoch: 1,
        })
    }

    proptest! {
        #[test]
        fn every_history_folds_to_the_state_that_its_saga_reached(
            graph in graphs(), script in prop::collection::vec(events(), 0..60),
        ) {
            let mut state = State::initial();
            let mut history = Vec::new();
            for event in script {
                let Ok((after, _)) = transition(&graph, &state, &event) else { continue };
                history.extend(entry(&graph, &state, &event, i32::try_from(history.len()).unwrap() + 1));
                let ends = event == Event::Discarded;
                state = after;
                if ends {
                    break;
                }
            }
            let replayed = replay(&graph, &history, state.cause.as_ref()).map_err(TestCaseError::fail)?;
            let what = |state: &State| {
                let State { status, step_index, direction, in_doubt, arms, round, .. } = state.clone();
                (status, step_index, direction, in_doubt, arms, round)
            };
            prop_assert_eq!(what(&replayed), what(&state));
            if state.status == Status::Compensated {
                prop_assert_eq!(&replayed.cause, &state.cause);
            }
        }
    }
}
