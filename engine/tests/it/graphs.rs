//! Wrong graphs don't build, and the error says what to change.

use engine::{
    Batch, Definition, Engine, ForwardOnly, GraphError, NothingToUndo, Outcome, Outcomes, Saga, SagaName,
    StepError, TransactionStep, Tx, UndoKind,
};

use super::fixtures::{self, File, Pack, Seal, TestInput};

const NAME: SagaName<TestInput> = SagaName::new("any");

struct Dawdle;

impl TransactionStep for Dawdle {
    const NAME: &'static str = "dawdle";
    type Input = TestInput;
    type Output = u8;
    type Undo = NothingToUndo;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<u8>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

struct Shouting;

impl TransactionStep for Shouting {
    const NAME: &'static str = "SHOUT_IT";
    type Input = TestInput;
    type Output = u16;
    type Undo = ForwardOnly;

    async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<u16>, StepError> {
        Ok(batch.decide(|_| Outcome::Done(1)))
    }
}

struct Boxes;

fn message(built: Result<Definition, GraphError>) -> String {
    built.unwrap_err().to_string()
}

#[test]
fn an_undo_left_undecided_before_the_pivot_is_refused() {
    let message = message(Saga::named(NAME).then(Seal).then(Dawdle).build());
    assert!(message.contains("`seal`") && message.contains("give it an undo"), "{message}");
}

#[test]
fn an_undo_after_the_pivot_is_refused() {
    let message = message(Saga::named(NAME).pivot(Seal).then(Pack).build());
    assert!(message.contains("`pack`") && message.contains("is after the pivot"), "{message}");
}

#[test]
fn an_undo_on_the_pivot_is_refused() {
    let message = message(Saga::named(NAME).pivot(Pack).build());
    assert!(message.contains("is the pivot") && message.contains("ForwardOnly"), "{message}");
}

#[test]
fn two_pivots_are_refused() {
    let message = message(Saga::named(NAME).pivot(Seal).pivot(File).build());
    assert!(message.contains("`seal` and `file`"), "{message}");
}

#[test]
fn a_name_used_twice_is_refused() {
    let message = message(Saga::named(NAME).then(Dawdle).then(Dawdle).build());
    assert!(message.contains("two steps named `dawdle`"), "{message}");
}

#[test]
fn a_name_that_is_not_kebab_case_is_refused() {
    assert!(message(Saga::named(NAME).pivot(Shouting).build()).contains("kebab-case"));
}

#[test]
fn a_saga_without_steps_is_refused() {
    assert!(message(Saga::named(NAME).build()).contains("no steps"));
}

#[tokio::test]
async fn two_sagas_with_one_name_are_refused() {
    let (_database, pool) = fixtures::database().await;
    let error = Engine::builder(pool)
        .register(fixtures::plain_saga())
        .register(fixtures::plain_saga())
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("two sagas are named"), "{error}");
}

#[test]
fn a_graph_lists_what_each_step_reads_and_how_it_is_undone() {
    let definition = fixtures::full_saga(&fixtures::ExternalWorld::default());
    let send = &definition.graph().steps[1];
    assert_eq!(send.reads, ["input", "pack"]);
    assert_eq!(send.after, ["pack"]);
    assert_eq!(send.undo, UndoKind::HasUndo);
    assert_eq!(definition.graph().steps[3].undo, UndoKind::ForwardOnly);
}

#[test]
fn the_hash_depends_on_the_shape_only() {
    let one = fixtures::plain_saga().graph().hash.clone();
    // Stored in every saga: a change of how it is computed needs another prefix.
    assert_eq!(one, "g1:d11bb667d1784c2a");
    assert_eq!(one, fixtures::plain_saga().graph().hash);
    let revised = || Saga::named(NAME).revision(1).then(Pack).build().unwrap().graph().hash.clone();
    assert_ne!(revised(), Saga::named(NAME).then(Pack).build().unwrap().graph().hash);
    assert_ne!(one, Saga::named(NAME).then(Pack).pivot(Seal).build().unwrap().graph().hash);
    let labelled = Saga::named(fixtures::PLAIN).then(Pack).labelled::<Boxes>().pivot(Seal).then(File);
    assert_eq!(one, labelled.build().unwrap().graph().hash);
}
