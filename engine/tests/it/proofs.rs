//! Proofs of the test sagas: every fault at every step. They use `engine::testing`, with which users of the engine prove
//! their own sagas.

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
    assert_eq!(report.cases.len(), 1 + 5 * 5 + 3 * 3);
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
