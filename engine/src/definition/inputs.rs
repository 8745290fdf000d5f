//! What the steps of a saga can read, at the type level.
//!
//! A builder carries a *trail*: the saga's input and the outputs of the steps so far, newest first, as nested
//! [`HCons`]s. A step's `Input` is one of these types or a tuple of up to five; one that nobody produced does not
//! compile. Two steps with the same output type make the choice ambiguous: give each its own type.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The end of a trail.
#[derive(Debug)]
pub struct HNil;

/// One type on a trail, and what came before it.
#[derive(Debug)]
pub struct HCons<T, Before>(std::marker::PhantomData<fn() -> (T, Before)>);

/// "It is the newest one."
#[derive(Debug)]
pub struct Here;

/// "It is one further back than `I` says."
#[derive(Debug)]
pub struct There<I>(std::marker::PhantomData<I>);

/// "The whole `Input` is one type of the trail."
#[derive(Debug)]
pub struct One<I>(std::marker::PhantomData<I>);

/// A list of types whose length is known.
pub trait HList {
    /// How many types it has; the saga's input is one of them.
    const LENGTH: usize;
}

impl HList for HNil {
    const LENGTH: usize = 0;
}

impl<T, Before: HList> HList for HCons<T, Before> {
    const LENGTH: usize = Before::LENGTH + 1;
}

/// A trail that has a `T` at the place `I`.
#[diagnostic::on_unimplemented(
    message = "no earlier step produces `{T}`, and it is not the saga's input",
    label = "this step reads `{T}`",
    note = "add a step with `Output = {T}` before this one, or read something that is there"
)]
pub trait Selector<T, I>: HList {
    /// Its place, counted from the saga's input (zero) on.
    const INDEX: usize;
}

impl<T, Before: HList> Selector<T, Here> for HCons<T, Before> {
    const INDEX: usize = Before::LENGTH;
}

impl<T, U, Before: Selector<T, I>, I> Selector<T, There<I>> for HCons<U, Before> {
    const INDEX: usize = Before::INDEX;
}

/// The stored JSON of the saga's input (place zero) and of the outputs so far.
pub(crate) type Values = [Option<Arc<RawValue>>];

/// Something that can be read off the trail `L`; `I` is found by the compiler.
pub trait FromOutputs<L, I>: Sized {
    /// Decodes it.
    ///
    /// # Errors
    /// A sentence that names the type, when the stored JSON does not fit it.
    fn read(values: &Values) -> Result<Self, String>;

    /// The places it is read from.
    fn places() -> Vec<usize>;
}

impl<L: Selector<T, I>, T: DeserializeOwned, I> FromOutputs<L, One<I>> for T {
    fn read(values: &Values) -> Result<Self, String> {
        decode(values, L::INDEX)
    }

    fn places() -> Vec<usize> {
        vec![L::INDEX]
    }
}

macro_rules! tuple {
    ($($t:ident $i:ident),*) => {
        impl<L, $($t: DeserializeOwned, $i),*> FromOutputs<L, ($($i,)*)> for ($($t,)*)
        where $(L: Selector<$t, $i>),*
        {
            fn read(values: &Values) -> Result<Self, String> {
                Ok(($(decode::<$t>(values, <L as Selector<$t, $i>>::INDEX)?,)*))
            }

            fn places() -> Vec<usize> {
                vec![$(<L as Selector<$t, $i>>::INDEX),*]
            }
        }
    };
}

tuple!(A IA);
tuple!(A IA, B IB);
tuple!(A IA, B IB, C IC);
tuple!(A IA, B IB, C IC, D ID);
tuple!(A IA, B IB, C IC, D ID, E IE);

fn decode<T: DeserializeOwned>(values: &Values, place: usize) -> Result<T, String> {
    let name = std::any::type_name::<T>();
    let raw = values
        .get(place)
        .and_then(Option::as_deref)
        .ok_or_else(|| format!("the stored {name} (place {place}) is missing"))?;
    serde_json::from_str(raw.get())
        .map_err(|error| format!("the stored {name} (place {place}) can't be read: {error}"))
}
