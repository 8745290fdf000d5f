//! Proofs of the test sagas: every fault at every step. They use `engine::testing`, with which users of the engine
//! prove their own sagas.

mod alone;
mod changes;
mod children;
mod kinds;
mod planted;
mod trees;

use engine::{
    Direction, Status,
    testing::{Kind, Proof},
};

use super::fixtures::{self, ExternalWorld, FULL, PLAIN, TestInput};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_every_kind_of_step_finds_no_violation() {
    let (_database, pool) = fixtures::database().await;
    let world = ExternalWorld::default();
    let definitions = {
        let world = world.clone();
        move || vec![fixtures::full_saga(&world)]
    };
    let report = Proof::of(FULL.name(), pool, definitions, || FULL.with(&TestInput::default()))
        .check(|run| async move {
            for step in ["pack", "charge", "seal", "file"] {
                let effects: i64 = sqlx::query_scalar(
                    "select coalesce(sum(change), 0) from effect where saga_id = $1 and step = $2",
                )
                .bind(run.saga_id.0)
                .bind(step)
                .fetch_one(&run.pool)
                .await
                .map_err(|error| error.to_string())?;
                if effects != run.effects_of(step) {
                    return Err(format!(
                        "`{step}` took effect {effects} times, by its history {}",
                        run.effects_of(step)
                    ));
                }
                if run.final_status.status == Status::Compensated && effects != 0 {
                    return Err(format!("`{step}` is not undone"));
                }
            }
            Ok(())
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    // The proof covered the cases that matter most.
    for kind in [Kind::ActionCrashesBeforeCommit, Kind::UndoCrashesAfterCommit, Kind::UndoNeedsAPerson] {
        assert!(report.cases.iter().any(|case| case.kind == kind));
    }
    assert_eq!(report.cases.len(), 1 + 5 * 7 + 3 * 3 + 1);
    let mut sent = world.sent.lock().unwrap().clone();
    let calls = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert!(sent.len() < calls, "a lost call was made again with the same key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_fused_steps_finds_no_violation() {
    let (_database, pool) = fixtures::database().await;
    let report =
        Proof::of(PLAIN.name(), pool, || vec![fixtures::plain_saga()], || PLAIN.with(&TestInput::default()))
            .check(|run| async move {
                let undone = run.history.iter().any(|entry| entry.direction == Direction::Undo);
                (!undone || run.final_status.status == Status::Compensated)
                    .then_some(())
                    .ok_or_else(|| "undone for nothing".into())
            })
            .run()
            .await
            .unwrap();
    assert!(report.violations.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_of_waits_finds_no_violation_and_covers_what_can_happen_to_a_signal() {
    use engine::{Saga, SagaName};

    use super::waits::{APPROVAL, Approval, Decide, LONG};

    const NAME: SagaName<TestInput> = SagaName::new("proved-waits");
    let (_database, pool) = fixtures::database().await;
    let definitions = || {
        let saga = Saga::named(NAME).then(fixtures::Pack).sleep("rest", LONG);
        let saga = saga.signal("await-approval", APPROVAL.within(LONG)).then(Decide).pivot(fixtures::Seal);
        vec![saga.build().unwrap()]
    };
    let report = Proof::of(NAME.name(), pool, definitions, || NAME.with(&TestInput::default()))
        .signal(|| APPROVAL.with(&Approval::by("ada")))
        .check(|run| async move {
            let taken: i64 = sqlx::query_scalar(
                "select count(*) from engine.inbox where saga_id = $1 and state = 'consumed'",
            )
            .bind(run.saga_id.0)
            .fetch_one(&run.pool)
            .await
            .map_err(|error| error.to_string())?;
            let times_out =
                run.is_struck && matches!(run.case.kind, Kind::SignalTimesOut | Kind::SignalComesLate);
            let wanted = i64::from(run.final_status.status == Status::Completed && !times_out);
            let is_undone = run.effects_of("pack") == wanted.max(i64::from(times_out));
            let received = run.effects_of("await-approval") == 1 && !times_out;
            (taken == i64::from(received) && is_undone).then_some(()).ok_or_else(|| format!("{taken} taken"))
        })
        .run()
        .await
        .unwrap();
    assert!(report.violations.is_empty(), "{report}");
    let of = |kind: Kind| report.cases.iter().filter(|case| case.kind == kind).count();
    for kind in
        [Kind::SignalComesEarly, Kind::SignalComesTwice, Kind::SignalComesLate, Kind::SignalRacesTimeOut]
    {
        assert_eq!(of(kind), 1, "{kind:?}");
    }
    assert_eq!(of(Kind::SignalTimesOut), 2, "for all of a batch, and for one");
    // Nothing; the undo of `pack`; sleep, signal, and three steps, each also for one saga of the batch.
    assert_eq!(report.cases.len(), 1 + 3 + (3 + 1) + (8 + 2) + 3 * (5 + 2));
}
