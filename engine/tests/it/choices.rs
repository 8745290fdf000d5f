//! Choices: a saga runs part of its steps, or one of two arms, as its data say.

mod arms;
mod builds;
mod once;
mod signals;
mod undos;

use engine::{
    Batch, Definition, Engine, Outcome, Outcomes, RetryPolicy, Saga, SagaId, SagaName, StepError,
    TransactionStep, Tx, UndoBatch, UndoOutcome, UndoOutcomes, UndoTransaction,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::fixtures::{self, QUICK, TestEngine};

/// What the choices of a parcel are made from.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each choice asks for one")]
struct Parcel {
    abroad: bool,
    insured: bool,
    fragile: bool,
    /// Whether the last step says no.
    lost: bool,
}

/// Every parcel that has something to choose from.
const PARCELS: [Parcel; 5] = [
    Parcel { abroad: false, insured: false, fragile: false, lost: false },
    Parcel { abroad: false, insured: true, fragile: false, lost: false },
    Parcel { abroad: false, insured: true, fragile: true, lost: false },
    Parcel { abroad: true, insured: false, fragile: false, lost: false },
    Parcel { abroad: true, insured: true, fragile: true, lost: false },
];

const SEND: SagaName<Parcel, String> = SagaName::new("send-parcel");

/// Defines a transaction step that records its effect; its undo takes that back, and reads what the step gave.
macro_rules! step {
    ($step:ident, $name:literal, $input:ty, $output:ident, |$item:ident| $given:expr) => {
        struct $step;

        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        struct $output(String);

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = $input;
            type Output = $output;
            type Undo = Self;

            async fn run(
                &self,
                tx: &mut Tx<'_>,
                batch: &Batch<$input>,
            ) -> Result<Outcomes<$output>, StepError> {
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, 1)
                    .await?;
                Ok(batch.decide(|item| {
                    let $item = &item.input;
                    Outcome::Done($output(format!("{} {}", $name, $given)))
                }))
            }
        }

        impl UndoTransaction<$step> for $step {
            const RETRY: RetryPolicy = QUICK;

            async fn undo(
                _: &$step,
                tx: &mut Tx<'_>,
                batch: &UndoBatch<$input, $output>,
            ) -> Result<UndoOutcomes, StepError> {
                assert!(batch.iter().all(|item| item.output.0.starts_with($name)), "it reads its own output");
                fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), $name, -1)
                    .await?;
                Ok(batch.decide(|_| UndoOutcome::Done))
            }
        }
    };
}
step!(Weigh, "weigh", Parcel, Weight, |parcel| parcel.abroad);
step!(Declare, "declare", Weight, Declaration, |weight| weight.0);
step!(Ferry, "ferry", (Weight, Declaration), Shipped, |read| format!("{}+{}", read.0.0, read.1.0));

/// The other way to ship.
struct Drive;

impl TransactionStep for Drive {
    const NAME: &'static str = "drive";
    const RETRY: RetryPolicy = QUICK;
    type Input = Weight;
    type Output = Shipped;
    type Undo = Self;

    async fn run(&self, tx: &mut Tx<'_>, batch: &Batch<Weight>) -> Result<Outcomes<Shipped>, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "drive", 1).await?;
        Ok(batch.decide(|item| Outcome::Done(Shipped(format!("drive {}", item.input.0)))))
    }
}

impl UndoTransaction<Drive> for Drive {
    const RETRY: RetryPolicy = QUICK;

    async fn undo(
        _: &Drive,
        tx: &mut Tx<'_>,
        batch: &UndoBatch<Weight, Shipped>,
    ) -> Result<UndoOutcomes, StepError> {
        fixtures::record_effect(tx, batch.iter().map(|item| item.saga_id.0).collect(), "drive", -1).await?;
        Ok(batch.decide(|_| UndoOutcome::Done))
    }
}

step!(Insure, "insure", Shipped, Policy, |shipped| shipped.0);
step!(Pad, "pad", (Policy, Weight), Padded, |read| read.0.0);

/// Reads everything that may or may not be there, and says no to what is lost.
struct Finish;

impl TransactionStep for Finish {
    const NAME: &'static str = "finish";
    const RETRY: RetryPolicy = QUICK;
    type Input = (Parcel, Shipped, Option<Policy>, Option<Padded>);
    type Output = String;
    type Undo = engine::NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|item| {
            let (parcel, shipped, policy, padded) = &item.input;
            if parcel.lost {
                return Outcome::fail("lost", "it is lost");
            }
            let policy = policy.as_ref().map_or("uninsured", |policy| policy.0.as_str());
            let padded = padded.as_ref().map_or("bare", |padded| padded.0.as_str());
            Outcome::Done(format!("{}; {policy}; {padded}", shipped.0))
        }))
    }
}

/// Weighs, ships by ferry (two steps) or by road (one), insures if wanted and then pads what is fragile, and finishes.
fn send_parcel() -> Definition {
    Saga::named(SEND)
        .then(Weigh)
        .either(
            "goes-abroad",
            |parcel: &Parcel| parcel.abroad,
            |abroad| abroad.then(Declare).then(Ferry),
            |inland| inland.then(Drive),
        )
        .when(
            "is-insured",
            |parcel: &Parcel| parcel.insured,
            |insured| {
                let insured = insured.then(Insure);
                insured.when("is-fragile", |parcel: &Parcel| parcel.fragile, |fragile| fragile.then(Pad))
            },
        )
        .then(Finish)
        .returns_output()
        .build()
        .unwrap()
}

fn engine_of(pool: &PgPool, definition: Definition) -> TestEngine {
    TestEngine::build(Engine::builder(pool.clone()).register(definition))
}

/// The steps of a saga's history that were done, undos with a minus.
async fn done(engine: &Engine, saga_id: SagaId) -> Vec<String> {
    let history = engine.history(saga_id).await.unwrap().unwrap();
    let done = history.into_iter().filter(|entry| entry.outcome == engine::HistoryOutcome::Done);
    done.map(|entry| match entry.direction {
        engine::Direction::Action => entry.step,
        engine::Direction::Undo => format!("-{}", entry.step),
    })
    .collect()
}

/// The arms of a saga, as they are stored.
async fn stored_arms(pool: &PgPool, saga_id: SagaId) -> Option<String> {
    sqlx::query_scalar("select arms from engine.saga where id = $1")
        .bind(saga_id.0)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn verified(engine: &Engine) {
    assert_eq!(engine.verify_histories(500).await.unwrap(), []);
}

step!(Stamp, "stamp", Parcel, Stamped, |parcel| parcel.abroad);

/// Gives nothing.
struct Look;

impl TransactionStep for Look {
    const NAME: &'static str = "look";
    type Input = Parcel;
    type Output = Option<u32>;
    type Undo = engine::NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Parcel>) -> Result<Outcomes<Option<u32>>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(None)))
    }
}

/// Defines a step that only goes forward.
macro_rules! forward {
    ($step:ident, $name:literal, $outcome:expr) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = QUICK;
            type Input = Parcel;
            type Output = bool;
            type Undo = engine::ForwardOnly;

            async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Parcel>) -> Result<Outcomes<bool>, StepError> {
                Ok(batch.decide(|_| $outcome))
            }
        }
    };
}

forward!(Post, "post", Outcome::Done(true));
forward!(Refuse, "refuse", Outcome::fail("no", "it refuses"));

/// One more way to ship.
struct Fly;

impl TransactionStep for Fly {
    const NAME: &'static str = "fly";
    const RETRY: RetryPolicy = QUICK;
    type Input = Weight;
    type Output = Shipped;
    type Undo = engine::NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Weight>) -> Result<Outcomes<Shipped>, StepError> {
        Ok(batch.decide(|item| Outcome::Done(Shipped(format!("fly {}", item.input.0)))))
    }
}
