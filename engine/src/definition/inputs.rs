//! What the steps of a saga can read, checked at compile time.
//!
//! The builder of a saga carries a heterogeneous list of types: the saga's input and the outputs of the steps so far,
//! newest first, as nested [`HCons`]s. A step's `Input` is one of these types, each as it is or as [`Shared`], or a
//! tuple of up to twelve. An input that no earlier step produces does not compile, and neither does one that two steps
//! produce: a [label](crate::Of) tells them apart.
//!
//! In an arm of a choice the list is [`Within`] the list before the choice. Behind a `when` it is [`Perhaps`], whose outputs
//! are read as an `Option`; behind an `either` the outputs of both arms are [`Hidden`], but for the one that they share.

use serde::de::DeserializeOwned;

use crate::model::stored_value::{Shared, StoredValue, StoredValues};

/// The end of the list.
#[derive(Debug)]
pub struct HNil;

/// One type of the list, and the rest, which came before it.
#[derive(Debug)]
pub struct HCons<T, Before>(std::marker::PhantomData<fn() -> (T, Before)>);

/// The list in an arm of a choice: the outputs of the arm so far, and what came before the choice.
#[derive(Debug)]
pub struct Within<Own, Base>(std::marker::PhantomData<fn() -> (Own, Base)>);

/// The list behind a `when`: the outputs of its arm, which may have been left out, and what came before.
#[derive(Debug)]
pub struct Perhaps<Own, Base>(std::marker::PhantomData<fn() -> (Own, Base)>);

/// The list before the output that both arms of an `either` give: their own outputs, which can't be read behind it, and
/// what came before.
#[derive(Debug)]
pub struct Hidden<A, B, Base>(std::marker::PhantomData<fn(A, B) -> Base>);

/// Index: the newest type of the list.
#[derive(Debug)]
pub struct Here;

/// Index: one further back than `I`.
#[derive(Debug)]
pub struct There<I>(std::marker::PhantomData<I>);

/// Index: among the outputs of the arm.
#[derive(Debug)]
pub struct InArm<I>(std::marker::PhantomData<I>);

/// Index: among those from before the choice.
#[derive(Debug)]
pub struct InBase<I>(std::marker::PhantomData<I>);

/// Index: among those of a `when` inside of the `when`.
#[derive(Debug)]
pub struct Deeper<I>(std::marker::PhantomData<I>);

/// Index: the whole `Input` is one type of the list.
#[derive(Debug)]
pub struct One<I>(std::marker::PhantomData<I>);

/// Index: the whole `Input` is one type of the list, as `Shared`.
#[derive(Debug)]
pub struct OneShared<I>(std::marker::PhantomData<I>);

/// Index: the whole `Input` is one type of the list that may have been left out.
#[derive(Debug)]
pub struct OneOptional<I>(std::marker::PhantomData<I>);

/// Index: the whole `Input` is one type of the list that may have been left out, as `Shared`.
#[derive(Debug)]
pub struct OneOptionalShared<I>(std::marker::PhantomData<I>);

/// A heterogeneous list of types.
pub trait HList {
    /// How many types the list has, the saga's input included.
    const LENGTH: usize;
}

impl HList for HNil {
    const LENGTH: usize = 0;
}

impl<T, Before: HList> HList for HCons<T, Before> {
    const LENGTH: usize = Before::LENGTH + 1;
}

impl<Own: HList, Base: HList> HList for Within<Own, Base> {
    const LENGTH: usize = Base::LENGTH + Own::LENGTH;
}

impl<Own: HList, Base: HList> HList for Perhaps<Own, Base> {
    const LENGTH: usize = Base::LENGTH + Own::LENGTH;
}

/// A saga takes one arm, so the arms share their places.
impl<A: HList, B: HList, Base: HList> HList for Hidden<A, B, Base> {
    const LENGTH: usize = Base::LENGTH + if A::LENGTH > B::LENGTH { A::LENGTH } else { B::LENGTH };
}

/// A list that has a `T` at the index `I`.
#[diagnostic::on_unimplemented(
    message = "no earlier step produces `{T}`, and it is not the saga's input",
    label = "this step reads `{T}`",
    note = "add a step with `Output = {T}` before this one, or read something that is there",
    note = "what is labelled is read as `Of<Label, {T}>`, and what a step in a `when` produces as `Option<{T}>`"
)]
pub trait Selector<T, I>: HList {
    /// The index of the type, counted from the saga's input (zero).
    const INDEX: usize;
}

impl<T, Before: HList> Selector<T, Here> for HCons<T, Before> {
    const INDEX: usize = Before::LENGTH;
}

impl<T, U, Before: Selector<T, I>, I> Selector<T, There<I>> for HCons<U, Before> {
    const INDEX: usize = Before::INDEX;
}

impl<T, Own: Selector<T, I>, Base: HList, I> Selector<T, InArm<I>> for Within<Own, Base> {
    const INDEX: usize = Base::LENGTH + Own::INDEX;
}

impl<T, Own: HList, Base: Selector<T, I>, I> Selector<T, InBase<I>> for Within<Own, Base> {
    const INDEX: usize = Base::INDEX;
}

impl<T, Own: HList, Base: Selector<T, I>, I> Selector<T, InBase<I>> for Perhaps<Own, Base> {
    const INDEX: usize = Base::INDEX;
}

impl<T, A: HList, B: HList, Base: Selector<T, I>, I> Selector<T, InBase<I>> for Hidden<A, B, Base> {
    const INDEX: usize = Base::INDEX;
}

/// A list that has a `T` at the index `I` which may have been left out, because it is of a step in a `when`.
#[diagnostic::on_unimplemented(
    message = "no earlier step produces `Option<{T}>`, and no step in a `when` produces `{T}`",
    label = "this step reads `Option<{T}>`",
    note = "what every saga of this definition has is read as `{T}`"
)]
pub trait OptionalSelector<T, I>: HList {
    /// The index of the type, counted from the saga's input (zero).
    const INDEX: usize;
}

impl<T, U, Rest: OptionalSelector<T, I>, I> OptionalSelector<T, There<I>> for HCons<U, Rest> {
    const INDEX: usize = Rest::INDEX;
}

impl<T, Own: OptionalSelector<T, I>, Base: HList, I> OptionalSelector<T, InArm<I>> for Within<Own, Base> {
    // The places of the arm follow those from before, as in `Selector`.
    const INDEX: usize = Base::LENGTH + Own::INDEX;
}

impl<T, Own: HList, Base: OptionalSelector<T, I>, I> OptionalSelector<T, InBase<I>> for Within<Own, Base> {
    const INDEX: usize = Base::INDEX;
}

impl<T, Own: Selector<T, I>, Base: HList, I> OptionalSelector<T, InArm<I>> for Perhaps<Own, Base> {
    const INDEX: usize = Base::LENGTH + Own::INDEX;
}

impl<T, Own: OptionalSelector<T, I>, Base: HList, I> OptionalSelector<T, Deeper<I>> for Perhaps<Own, Base> {
    const INDEX: usize = Base::LENGTH + Own::INDEX;
}

impl<T, Own: HList, Base: OptionalSelector<T, I>, I> OptionalSelector<T, InBase<I>> for Perhaps<Own, Base> {
    const INDEX: usize = Base::INDEX;
}

impl<T, A: HList, B: HList, Base: OptionalSelector<T, I>, I> OptionalSelector<T, InBase<I>>
    for Hidden<A, B, Base>
{
    const INDEX: usize = Base::INDEX;
}

/// Why a value can't be read.
#[derive(Debug)]
pub struct ReadError {
    /// The index of the value, counted from the saga's input (zero).
    pub place: usize,
    /// What is wrong with it.
    pub why: Unread,
}

/// What is wrong with a value that can't be read.
#[derive(Debug)]
pub enum Unread {
    /// It is not stored.
    Missing,
    /// Its JSON does not fit the type.
    Unreadable(serde_json::Error),
}

/// An input that can be read from the list `L`; the compiler infers `I`.
pub trait FromOutputs<L, I>: Sized {
    /// Decodes the input.
    ///
    /// # Errors
    /// When a value is not stored, or its JSON does not fit the type.
    fn read(values: &StoredValues) -> Result<Self, ReadError>;

    /// The indices of the values that it is read from.
    fn places() -> Vec<usize>;
}

impl<L: Selector<T, I>, T: DeserializeOwned, I> FromOutputs<L, One<I>> for T {
    fn read(values: &StoredValues) -> Result<Self, ReadError> {
        read(values, L::INDEX, StoredValue::decode)
    }

    fn places() -> Vec<usize> {
        vec![L::INDEX]
    }
}

impl<L: Selector<T, I>, T: DeserializeOwned + Send + Sync + 'static, I> FromOutputs<L, OneShared<I>>
    for Shared<T>
{
    fn read(values: &StoredValues) -> Result<Self, ReadError> {
        read(values, L::INDEX, StoredValue::shared)
    }

    fn places() -> Vec<usize> {
        vec![L::INDEX]
    }
}

impl<L: OptionalSelector<T, I>, T: DeserializeOwned, I> FromOutputs<L, OneOptional<I>> for Option<T> {
    fn read(values: &StoredValues) -> Result<Self, ReadError> {
        read_optional(values, L::INDEX, StoredValue::decode)
    }

    fn places() -> Vec<usize> {
        vec![L::INDEX]
    }
}

impl<L: OptionalSelector<T, I>, T: DeserializeOwned + Send + Sync + 'static, I>
    FromOutputs<L, OneOptionalShared<I>> for Option<Shared<T>>
{
    fn read(values: &StoredValues) -> Result<Self, ReadError> {
        read_optional(values, L::INDEX, StoredValue::shared)
    }

    fn places() -> Vec<usize> {
        vec![L::INDEX]
    }
}

macro_rules! tuple {
    ($($t:ident $i:ident),*) => {
        impl<L, $($t: FromOutputs<L, $i>, $i),*> FromOutputs<L, ($($i,)*)> for ($($t,)*) {
            fn read(values: &StoredValues) -> Result<Self, ReadError> {
                Ok(($($t::read(values)?,)*))
            }

            fn places() -> Vec<usize> {
                [$($t::places()),*].concat()
            }
        }
    };
}

/// The tuple of all these, and every shorter one.
macro_rules! tuples {
    () => {};
    ($t:ident $i:ident $(, $others:ident $indices:ident)*) => {
        tuple!($t $i $(, $others $indices)*);
        tuples!($($others $indices),*);
    };
}

tuples!(A IA, B IB, C IC, D ID, E IE, F IF, G IG, H IH, I II, J IJ, K IK, M IM);

fn read<T>(
    values: &StoredValues,
    place: usize,
    decode: fn(&StoredValue) -> Result<T, serde_json::Error>,
) -> Result<T, ReadError> {
    let value = values.get(place).ok_or(ReadError { place, why: Unread::Missing })?;
    decode(value).map_err(|error| ReadError { place, why: Unread::Unreadable(error) })
}

/// What is not stored was left out; a stored `null` is a value.
fn read_optional<T>(
    values: &StoredValues,
    place: usize,
    decode: fn(&StoredValue) -> Result<T, serde_json::Error>,
) -> Result<Option<T>, ReadError> {
    values.get(place).map(|_| read(values, place, decode)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! list {
        () => { HNil };
        ($newest:ty $(, $before:ty)*) => { HCons<$newest, list!($($before),*)> };
    }

    /// The places that `T` is read from; the compiler infers `At`.
    fn places<L, T: FromOutputs<L, At>, At>() -> Vec<usize> {
        T::places()
    }

    #[test]
    fn a_step_reads_up_to_twelve_values() {
        type Outputs = list!(f64, f32, String, char, bool, i64, i32, i16, u64, u32, u16, u8);
        type Twelve = (u8, u16, u32, u64, i16, i32, i64, bool, char, String, f32, Shared<f64>);
        assert_eq!(places::<Outputs, Twelve, _>(), (0..12).collect::<Vec<_>>());
        assert_eq!(places::<Outputs, (f64, u8), _>(), [11, 0]);
    }

    /// So the compiler can infer neither, and refuses to choose.
    #[test]
    fn a_type_that_two_steps_produce_has_two_indices() {
        type Outputs = list!(u8, u8);
        assert_eq!(<u8 as FromOutputs<Outputs, One<Here>>>::places(), [1]);
        assert_eq!(<u8 as FromOutputs<Outputs, One<There<Here>>>>::places(), [0]);
    }
}
