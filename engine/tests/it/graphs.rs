//! Wrong graphs don't build, and the error says what to change; and what the hash of a graph is made of.

use std::time::Duration;

use engine::{
    Batch, Definition, Engine, ForwardOnly, GraphError, NothingToUndo, Outcome, Outcomes, Saga, SagaName,
    SignalName, StepError, TransactionStep, Tx, UndoKind,
};

use super::fixtures::{self, File, Pack, Seal, Send, TestInput};

const NAME: SagaName<TestInput> = SagaName::new("any");

/// Defines a step that does nothing.
macro_rules! idle {
    ($step:ident, $name:literal) => {
        struct $step;

        impl TransactionStep for $step {
            const NAME: &'static str = $name;
            type Input = TestInput;
            type Output = u8;
            type Undo = NothingToUndo;

            async fn run(&self, _: &mut Tx<'_>, batch: &Batch<TestInput>) -> Result<Outcomes<u8>, StepError> {
                Ok(batch.decide(|_| Outcome::Done(1)))
            }
        }
    };
}

idle!(Dawdle, "dawdle");
idle!(Hurry, "hurry");

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

/// A saga with every kind of step, on every side of the pivot and in both arms.
fn every_kind() -> Definition {
    const WORD: SignalName<u8> = SignalName::new("word");
    const ROW: SagaName<TestInput> = SagaName::new("row");
    let day = Duration::from_hours(24);
    Saga::named(NAME)
        .revision(7)
        .entry(Pack)
        .then_call(Send(fixtures::ExternalWorld::default()))
        .sleep("rest", day)
        .signal("await-word", WORD.within(day))
        .either("which", |_: &TestInput| true, |yes| yes.then(Dawdle), |no| no.then(Hurry))
        .child("one", ROW.child(TestInput::clone))
        .child_settled("settled", ROW.child(TestInput::clone))
        .parallel("two", (ROW.child(TestInput::clone), ROW.child(TestInput::clone)))
        .for_each("many", ROW.each(|input: &TestInput| vec![input.clone()]))
        .pivot(Seal)
        .then(File)
        .build()
        .unwrap()
}

#[test]
fn the_hash_is_made_of_written_out_words_whatever_our_types_are_called() {
    let words = [
        "saga any revision 7",
        "entry pack transaction before-pivot undo",
        "step send call before-pivot undo",
        "step rest sleep before-pivot no-undo",
        "step await-word signal before-pivot no-undo for word",
        "step which choice before-pivot no-undo",
        "step dawdle transaction before-pivot no-undo in which yes",
        "step hurry transaction before-pivot no-undo in which no",
        "step one child before-pivot undo of row",
        "step settled child before-pivot undo of row settled",
        "step two parallel before-pivot undo of row row",
        "step many for-each before-pivot undo of row",
        "step seal transaction pivot no-undo",
        "step file transaction after-pivot no-undo",
    ];
    // FNV-1a, 64 bits.
    let hash = words
        .map(|word| format!("{word};"))
        .concat()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    assert_eq!(every_kind().graph().hash, format!("g1:{hash:016x}"));
}

#[test]
fn a_stored_graph_names_kinds_and_sides_by_words_that_stay() {
    let stored = serde_json::to_value(every_kind().graph()).unwrap();
    let words: Vec<_> = stored["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| ["kind", "placement", "undo"].map(|word| step[word].as_str().unwrap()).join(" "))
        .collect();
    assert_eq!(
        words,
        [
            "transaction before_pivot undone",
            "call before_pivot undone",
            "sleep before_pivot nothing_to_undo",
            "signal before_pivot nothing_to_undo",
            "choice before_pivot nothing_to_undo",
            "transaction before_pivot nothing_to_undo",
            "transaction before_pivot nothing_to_undo",
            "child before_pivot undone",
            "child before_pivot undone",
            "parallel before_pivot undone",
            "for_each before_pivot undone",
            "transaction pivot forward_only",
            "transaction after_pivot forward_only",
        ]
    );
    assert_eq!(
        (&stored["steps"][5]["arm"]["arm"], &stored["steps"][6]["arm"]["arm"]),
        (&"yes".into(), &"no".into())
    );
}
