//! The builder's methods for choices.

use serde::de::DeserializeOwned;

use crate::definition::{
    inputs::{FromOutputs, HCons, HList, HNil, Hidden, Perhaps},
    part::{self, Part},
    saga::Saga,
};

impl<I, L: HList, O> Saga<I, L, O>
where
    I: serde::Serialize + DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    /// Adds a choice: the steps that `yes` adds are run only if `predicate` says so. Later steps read what they produce as
    /// an `Option`: `None` if they were left out.
    ///
    /// The predicate reads typed data of the saga, as a step does. It runs when the saga comes to the choice; what it decides
    /// is committed with the steps around it, written to the history, and never asked again. It is code, and no part of
    /// the graph: a new version may decide otherwise for sagas that have not come to the choice yet. If it panics, it is
    /// tried again, as a transaction step is.
    ///
    /// If the saga compensates, the steps of the arm are undone if they were run.
    ///
    /// ```
    /// # use engine::{Batch, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx};
    /// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// struct Order { total_cents: u64 }
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Checked { by: String }
    ///
    /// struct CheckFraud;
    /// impl TransactionStep for CheckFraud {
    ///     const NAME: &'static str = "check-fraud";
    ///     type Input = Order;
    ///     type Output = Checked;
    ///     type Undo = NothingToUndo;
    ///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<Checked>, StepError> {
    ///         Ok(batch.decide(|_| Outcome::Done(Checked { by: "rules".into() })))
    ///     }
    /// }
    ///
    /// struct Ship;
    /// impl TransactionStep for Ship {
    ///     const NAME: &'static str = "ship";
    ///     type Input = Option<Checked>;
    ///     type Output = String;
    ///     type Undo = NothingToUndo;
    ///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
    ///         Ok(batch.decide(|item| {
    ///             let checked = item.input.as_ref().map_or("not checked", |checked| checked.by.as_str());
    ///             Outcome::Done(format!("shipped, {checked}"))
    ///         }))
    ///     }
    /// }
    ///
    /// let ship = Saga::named(SagaName::<Order>::new("ship-order"))
    ///     .when("is-large", |order: &Order| order.total_cents > 100_000, |large| large.then(CheckFraud))
    ///     .then(Ship)
    ///     .build()?;
    /// assert_eq!(ship.graph().steps[2].after, ["is-large", "check-fraud"]);
    /// # Ok::<(), engine::GraphError>(())
    /// ```
    ///
    /// What may have been left out can't be read as if every saga had it. The compiler says that no earlier step produces
    /// `Checked`, and that what a step in a `when` produces is read as `Option<Checked>`:
    ///
    /// ```compile_fail,E0277
    /// # use engine::{Batch, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx};
    /// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// # struct Order { total_cents: u64 }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Checked { by: String }
    /// # struct CheckFraud;
    /// # impl TransactionStep for CheckFraud {
    /// #     const NAME: &'static str = "check-fraud";
    /// #     type Input = Order;
    /// #     type Output = Checked;
    /// #     type Undo = NothingToUndo;
    /// #     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Order>) -> Result<Outcomes<Checked>, StepError> {
    /// #         Ok(batch.decide(|_| Outcome::Done(Checked { by: "rules".into() })))
    /// #     }
    /// # }
    /// struct Ship;
    /// impl TransactionStep for Ship {
    ///     const NAME: &'static str = "ship";
    ///     type Input = Checked;
    ///     type Output = String;
    ///     type Undo = NothingToUndo;
    ///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Checked>) -> Result<Outcomes<String>, StepError> {
    ///         Ok(batch.decide(|item| Outcome::Done(item.input.by.clone())))
    ///     }
    /// }
    ///
    /// let ship = Saga::named(SagaName::<Order>::new("ship-order"))
    ///     .when("is-large", |order: &Order| order.total_cents > 100_000, |large| large.then(CheckFraud))
    ///     .then(Ship); // error[E0277]: no earlier step produces `Checked`, and it is not the saga's input
    /// ```
    pub fn when<X, At, Own: HList>(
        mut self,
        name: &'static str,
        predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
        yes: impl FnOnce(Part<HNil, L>) -> Part<Own, L>,
    ) -> Saga<I, Perhaps<Own, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        self.chain = part::when::<L, X, At, Own>(self.chain, name, predicate, yes);
        self.retyped()
    }

    /// Adds a choice between two arms. The last steps of both produce one type, which later steps read; what the other steps
    /// of the arms produce can be read within their arm only. All else is as with [`Saga::when`].
    ///
    /// ```
    /// # use engine::{CallError, CallStep, Item, NothingToUndo, Outcome, Saga, SagaName};
    /// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    /// struct Parcel { country: String }
    ///
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Label { number: String }
    ///
    /// struct LabelAtPost;
    /// impl CallStep for LabelAtPost {
    ///     const NAME: &'static str = "label-at-post";
    ///     type Input = Parcel;
    ///     type Output = Label;
    ///     type Undo = NothingToUndo;
    ///     async fn call(&self, _: &Item<Parcel>) -> Result<Outcome<Label>, CallError> {
    ///         Ok(Outcome::Done(Label { number: "P1".into() }))
    ///     }
    /// }
    ///
    /// struct LabelAtCourier;
    /// impl CallStep for LabelAtCourier {
    ///     const NAME: &'static str = "label-at-courier";
    ///     type Input = Parcel;
    ///     type Output = Label;
    ///     type Undo = NothingToUndo;
    ///     async fn call(&self, _: &Item<Parcel>) -> Result<Outcome<Label>, CallError> {
    ///         Ok(Outcome::Done(Label { number: "C1".into() }))
    ///     }
    /// }
    ///
    /// let send = Saga::named(SagaName::<Parcel, Label>::new("send-parcel"))
    ///     .either(
    ///         "stays-inland",
    ///         |parcel: &Parcel| parcel.country == "NL",
    ///         |inland| inland.then_call(LabelAtPost),
    ///         |abroad| abroad.then_call(LabelAtCourier),
    ///     )
    ///     .returns_output()
    ///     .build()?;
    /// assert_eq!(send.graph().steps[2].name, "label-at-courier");
    /// # Ok::<(), engine::GraphError>(())
    /// ```
    pub fn either<X, At, Given, A: HList, B: HList>(
        mut self,
        name: &'static str,
        predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
        yes: impl FnOnce(Part<HNil, L>) -> Part<HCons<Given, A>, L>,
        no: impl FnOnce(Part<HNil, L>) -> Part<HCons<Given, B>, L>,
    ) -> Saga<I, HCons<Given, Hidden<A, B, L>>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        self.chain = part::either::<L, X, At, Given, A, B>(self.chain, name, predicate, yes, no);
        self.retyped()
    }
}
