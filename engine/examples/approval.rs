//! An expense waits for its approval: for a signal, or until three days are over. One is approved, one is rejected, and one
//! that nobody decides about is paid only up to a limit.
//!
//! ```sh
//! cargo run -p sagaline-engine --example approval
//! ```
//!
//! It starts a PostgreSQL of its own, unless `DATABASE_URL` names a scratch database.
#![expect(clippy::print_stdout, reason = "an example prints what it does")]

#[path = "support/scratch.rs"]
mod scratch;

use std::time::Duration;

use engine::{
    Batch, Engine, ForwardOnly, HistoryEntry, NothingToUndo, Outcome, Outcomes, Saga, SagaId, SagaName,
    SignalName, SignalTarget, Signalled, StepError, TransactionStep, Tx, sqlx::postgres::PgPoolOptions,
};
use schemars::JsonSchema;
use scratch::Scratch;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

const EXPENSE: SagaName<Expense> = SagaName::new("expense");
const DECISION: SignalName<Decision> = SignalName::new("decision");

#[derive(Serialize, Deserialize, JsonSchema)]
struct Expense {
    employee: String,
    amount: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Decision {
    by: String,
    approved: bool,
}

/// Checks the decision. A rejected expense fails here, before the pivot: what was done before would be undone.
struct Check;

impl TransactionStep for Check {
    const NAME: &'static str = "check";
    type Input = (Expense, Signalled<Decision>);
    type Output = u32;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<u32>, StepError> {
        Ok(batch.decide(|item| match &item.input {
            (expense, Signalled::Received(decision)) if decision.approved => Outcome::Done(expense.amount),
            (_, Signalled::Received(decision)) => {
                Outcome::fail("rejected", format!("{} rejected it", decision.by))
            }
            (expense, Signalled::TimedOut) => Outcome::Done(expense.amount.min(50)),
        }))
    }
}

/// The pivot: after it, nothing is undone.
struct Pay;

impl TransactionStep for Pay {
    const NAME: &'static str = "pay";
    type Input = (Expense, u32);
    type Output = String;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
        Ok(batch.decide(|item| {
            let (expense, amount) = &item.input;
            Outcome::Done(format!("{} gets {amount} of {}", expense.employee, expense.amount))
        }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let scratch = Scratch::open().await?;
    let pool = PgPoolOptions::new().connect_with(engine::tuned(scratch.url.parse()?)).await?;
    engine::migrate(&pool).await?;

    let expense = Saga::named(EXPENSE)
        .signal("await-decision", DECISION.within(Duration::from_hours(72)))
        .then(Check)
        .pivot(Pay)
        .build()?;
    let engine = Engine::builder(pool).register(expense).build()?;
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (engine, stop, mut feed) = (engine.clone(), stop.clone(), engine.feed("default", 64));
        async move { engine.run(&mut feed, stop).await }
    });

    // The number of the expense is the business key, so whoever decides need not know the saga.
    let run = SagaId::generate();
    let mut sagas = Vec::new();
    for (number, employee) in ["ada", "bob", "cy"].into_iter().enumerate() {
        let expense = EXPENSE.with(&Expense { employee: employee.into(), amount: 120 });
        sagas.push((employee, engine.start(expense.business_key(format!("{run}-{number}"))).await?.saga_id));
    }
    for (number, approved) in [(0, true), (1, false)] {
        let decision = DECISION.with(&Decision { by: "dee".into(), approved }).key("first decision");
        let to = SignalTarget::key(EXPENSE.name(), format!("{run}-{number}"));
        let receipt = engine.signal(to, decision).await?;
        println!("the decision about {} is {}", sagas[number].0, receipt.state.name());
    }
    // Nobody decides about the third. An operator need not wait for three days.
    let skipped = loop {
        match engine.skip_wait(sagas[2].1, "ops", "the manager is away").await {
            Ok(skipped) => break skipped,
            // It has not come to its wait.
            Err(engine::SkipWaitError::NotWaiting { .. }) => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    };
    println!("the wait at {} is over", skipped.step);

    for (employee, saga_id) in sagas {
        let ending = engine.wait(saga_id, Duration::from_secs(20)).await?;
        println!("{employee}: {}", ending.map(|ending| ending.status.to_string()).unwrap_or_default());
        for HistoryEntry { seq, step, outcome, output, error, .. } in
            engine.history(saga_id).await?.unwrap_or_default()
        {
            let output = output.map(|output| output.to_string()).unwrap_or_default();
            println!("  {seq}. {step}: {} {output}{}", outcome.name(), error.join("; "));
        }
    }
    stop.cancel();
    worker.await?;
    engine.shutdown().await;
    scratch.close().await
}
