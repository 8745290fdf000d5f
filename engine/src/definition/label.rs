//! Labels tell outputs of one type apart.

use std::{fmt, marker::PhantomData, ops::Deref};

use serde::{Deserialize, Serialize};

/// A value with a label, which is any type. The label tells two outputs of the type `T` apart, or an output and the
/// saga's input; see [`Saga::labelled`](crate::Saga::labelled). What is stored is the value alone.
///
/// ```
/// use engine::{Batch, NothingToUndo, Of, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx};
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// struct Trip { traveller: String }
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Ticket { flight: String }
///
/// struct BookOutbound;
/// impl TransactionStep for BookOutbound {
///     const NAME: &'static str = "book-outbound";
///     type Input = Trip;
///     type Output = Ticket;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Trip>) -> Result<Outcomes<Ticket>, StepError> {
///         Ok(batch.decide(|_| Outcome::Done(Ticket { flight: "KL 1".into() })))
///     }
/// }
///
/// struct BookReturn;
/// impl TransactionStep for BookReturn {
///     const NAME: &'static str = "book-return";
///     type Input = Trip;
///     type Output = Ticket;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Trip>) -> Result<Outcomes<Ticket>, StepError> {
///         Ok(batch.decide(|_| Outcome::Done(Ticket { flight: "KL 2".into() })))
///     }
/// }
///
/// struct Outbound;
/// struct Return;
///
/// struct Confirm;
/// impl TransactionStep for Confirm {
///     const NAME: &'static str = "confirm";
///     type Input = (Of<Outbound, Ticket>, Of<Return, Ticket>);
///     type Output = String;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Self::Input>) -> Result<Outcomes<String>, StepError> {
///         Ok(batch.decide(|item| {
///             let (outbound, back) = &item.input;
///             Outcome::Done(format!("out with {}, back with {}", outbound.flight, back.flight))
///         }))
///     }
/// }
///
/// let trip = Saga::named(SagaName::<Trip>::new("book-trip"))
///     .then(BookOutbound).labelled::<Outbound>()
///     .then(BookReturn).labelled::<Return>()
///     .then(Confirm)
///     .build()?;
/// assert_eq!(trip.graph().steps[2].reads, ["book-outbound", "book-return"]);
/// # Ok::<(), engine::GraphError>(())
/// ```
///
/// Without labels it is not clear which of the two a step reads, and this does not compile. The compiler says that type
/// annotations are needed, and that it found several ways to satisfy `Selector<Ticket, _>`:
///
/// ```compile_fail,E0283
/// # use engine::{Batch, NothingToUndo, Outcome, Outcomes, Saga, SagaName, StepError, TransactionStep, Tx};
/// # #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// # struct Trip { traveller: String }
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Ticket { flight: String }
/// # struct BookOutbound;
/// # impl TransactionStep for BookOutbound {
/// #     const NAME: &'static str = "book-outbound";
/// #     type Input = Trip;
/// #     type Output = Ticket;
/// #     type Undo = NothingToUndo;
/// #     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Trip>) -> Result<Outcomes<Ticket>, StepError> {
/// #         Ok(batch.decide(|_| Outcome::Done(Ticket { flight: "KL 1".into() })))
/// #     }
/// # }
/// # struct BookReturn;
/// # impl TransactionStep for BookReturn {
/// #     const NAME: &'static str = "book-return";
/// #     type Input = Trip;
/// #     type Output = Ticket;
/// #     type Undo = NothingToUndo;
/// #     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Trip>) -> Result<Outcomes<Ticket>, StepError> {
/// #         Ok(batch.decide(|_| Outcome::Done(Ticket { flight: "KL 2".into() })))
/// #     }
/// # }
/// struct Confirm;
/// impl TransactionStep for Confirm {
///     const NAME: &'static str = "confirm";
///     type Input = Ticket;
///     type Output = String;
///     type Undo = NothingToUndo;
///     async fn run(&self, _: &mut Tx<'_>, batch: &Batch<Ticket>) -> Result<Outcomes<String>, StepError> {
///         Ok(batch.decide(|item| Outcome::Done(item.input.flight.clone())))
///     }
/// }
///
/// let trip = Saga::named(SagaName::<Trip>::new("book-trip"))
///     .then(BookOutbound)
///     .then(BookReturn)
///     .then(Confirm); // error[E0283]: type annotations needed
/// ```
#[derive(Serialize, Deserialize)]
#[serde(transparent, bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct Of<Label, T> {
    value: T,
    label: PhantomData<fn() -> Label>,
}

impl<Label, T> Of<Label, T> {
    /// Returns the value without its label.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<Label, T> Deref for Of<Label, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Lets tests call a step's code directly.
impl<Label, T> From<T> for Of<Label, T> {
    fn from(value: T) -> Self {
        Self { value, label: PhantomData }
    }
}

impl<Label, T: Clone> Clone for Of<Label, T> {
    fn clone(&self) -> Self {
        self.value.clone().into()
    }
}

impl<Label, T: PartialEq> PartialEq for Of<Label, T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<Label, T: fmt::Debug> fmt::Debug for Of<Label, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::inputs::{FromOutputs, HCons, HNil, Here, One, OneShared, There},
        model::stored_value::{Shared, StoredValue, StoredValues},
    };

    /// Has no traits.
    struct Outbound;

    #[test]
    fn a_labelled_value_is_stored_as_the_value_alone() {
        let labelled = Of::<Outbound, _>::from(vec![7]);
        assert_eq!(serde_json::to_string(&labelled).expect("it is JSON"), "[7]");
        assert_eq!(
            serde_json::from_str::<Of<Outbound, Vec<u8>>>("[7]").expect("it is a list"),
            labelled.clone()
        );
        assert_eq!((format!("{labelled:?}"), labelled.len()), ("[7]".into(), 1));
        assert_eq!(labelled.into_inner(), [7]);
    }

    #[test]
    fn a_labelled_output_is_read_shared_or_not() {
        type Outputs = HCons<u8, HCons<Of<Outbound, u8>, HNil>>;
        let mut values = StoredValues::new(StoredValue::encode(&1).expect("it is JSON"));
        values.set(1, Some(StoredValue::encode(&2).expect("it is JSON")));
        let own: Of<Outbound, u8> =
            FromOutputs::<Outputs, One<There<Here>>>::read(&values).expect("it is stored");
        let shared: Shared<Of<Outbound, u8>> =
            FromOutputs::<Outputs, OneShared<There<Here>>>::read(&values).expect("it is stored");
        assert_eq!((*own, **shared), (1, 1));
    }
}
