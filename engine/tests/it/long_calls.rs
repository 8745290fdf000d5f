//! Long calls: they report how far they are, and are told of a cancel.

mod cancellation;
mod progress;

use engine::{
    CallError, CallStep, Definition, Engine, EngineBuilder, ForwardOnly, Item, Outcome, RetryPolicy, Saga,
    SagaId, SagaName, UndoCall, UndoItem, UndoOutcome,
};
use sqlx::PgPool;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::fixtures::{Pack, QUICK, TestEngine, TestInput};
use crate::support::WAIT_TIMEOUT;

const IMPORT: SagaName<TestInput> = SagaName::new("import");

type ImportUndo = UndoItem<TestInput, Option<u64>>;

/// A call that runs, and the way to have it answer.
struct Running<T, A> {
    item: T,
    answer: oneshot::Sender<A>,
}

impl<T, A: std::fmt::Debug> Running<T, A> {
    fn answer(self, answer: A) {
        self.answer.send(answer).expect("the call waits for its answer");
    }
}

/// Hands calls to the test that plays them.
struct Played<T, A> {
    running: mpsc::UnboundedSender<Running<T, A>>,
}

impl<T, A> Clone for Played<T, A> {
    fn clone(&self) -> Self {
        Self { running: self.running.clone() }
    }
}

impl<T, A> Played<T, A> {
    async fn play(&self, item: T) -> A {
        let (answer, answered) = oneshot::channel();
        assert!(self.running.send(Running { item, answer }).is_ok(), "the test plays the calls");
        answered.await.expect("the test answers")
    }
}

type Action = Played<Item<TestInput>, Outcome<u64>>;
type Undo = Played<ImportUndo, UndoOutcome>;

/// No call reaches its time-out.
const PATIENT: RetryPolicy = RetryPolicy { timeout: WAIT_TIMEOUT, ..QUICK };

struct Import(Action, Undo);

impl CallStep for Import {
    const NAME: &'static str = "import";
    const RETRY: RetryPolicy = PATIENT;
    type Input = TestInput;
    type Output = u64;
    type Undo = Self;

    async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<u64>, CallError> {
        Ok(self.0.play(item.clone()).await)
    }
}

impl UndoCall<Import> for Import {
    const RETRY: RetryPolicy = PATIENT;

    async fn undo(step: &Import, item: &ImportUndo) -> Result<UndoOutcome, CallError> {
        Ok(step.1.play(item.clone()).await)
    }
}

macro_rules! forward_call {
    ($step:ident, $name:literal) => {
        struct $step(Action);

        impl CallStep for $step {
            const NAME: &'static str = $name;
            const RETRY: RetryPolicy = PATIENT;
            type Input = TestInput;
            type Output = u64;
            type Undo = ForwardOnly;

            async fn call(&self, item: &Item<TestInput>) -> Result<Outcome<u64>, CallError> {
                Ok(self.0.play(item.clone()).await)
            }
        }
    };
}
forward_call!(Publish, "publish");
forward_call!(Announce, "announce");

/// An engine that runs sagas of four steps: pack, import (a call with an undo), publish (the pivot, a call), announce (a
/// call). The test plays the calls.
struct Players {
    test: TestEngine,
    actions: Mutex<mpsc::UnboundedReceiver<Running<Item<TestInput>, Outcome<u64>>>>,
    undos: Mutex<mpsc::UnboundedReceiver<Running<ImportUndo, UndoOutcome>>>,
}

fn saga(action: &Action, undo: &Undo) -> Definition {
    Saga::named(IMPORT)
        .then(Pack)
        .then_call(Import(action.clone(), undo.clone()))
        .pivot_call(Publish(action.clone()))
        .then_call(Announce(action.clone()))
        .build()
        .unwrap()
}

impl Players {
    fn with(pool: &PgPool, set: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Self {
        let ((actions, actions_rx), (undos, undos_rx)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let saga = saga(&Played { running: actions }, &Played { running: undos });
        let test = TestEngine::build(set(Engine::builder(pool.clone()).register(saga)));
        Self { test, actions: Mutex::new(actions_rx), undos: Mutex::new(undos_rx) }
    }

    /// Its leases outlast the waits of the test, and it claims no saga that it is not asked to.
    fn new(pool: &PgPool) -> Self {
        let hour = std::time::Duration::from_hours(1);
        Self::with(pool, |builder| builder.lease(WAIT_TIMEOUT * 4).poll(hour).sweep(hour))
    }

    async fn start(&self) -> SagaId {
        self.test.engine.start(IMPORT.with(&TestInput::default())).await.unwrap().saga_id
    }

    /// The next action that runs.
    async fn action(&self) -> Running<Item<TestInput>, Outcome<u64>> {
        let next = async { self.actions.lock().await.recv().await.expect("the engine has the step") };
        tokio::time::timeout(WAIT_TIMEOUT, next).await.expect("the call runs")
    }

    /// The next undo that runs.
    async fn undo(&self) -> Running<ImportUndo, UndoOutcome> {
        let next = async { self.undos.lock().await.recv().await.expect("the engine has the step") };
        tokio::time::timeout(WAIT_TIMEOUT, next).await.expect("the undo runs")
    }
}

/// Another process, which knows the saga and works on no queue.
fn bystander(pool: &PgPool) -> Engine {
    let ((actions, _), (undos, _)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let saga = saga(&Played { running: actions }, &Played { running: undos });
    Engine::builder(pool.clone()).register(saga).build().unwrap()
}
