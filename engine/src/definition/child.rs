//! What a step says about the sagas that it starts and waits for, as its author writes it.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::{
        children::{EachItems, ErasedChild, StoredEnd},
        computed::Computed,
        inputs::FromOutputs,
        item_pages::ItemPages,
        new_saga::NewSaga,
        paged::{ErasedPages, PagesOf},
        saga_name::SagaName,
        step_input::StepInput,
    },
    model::{
        child::{ChildEnd, Joined},
        stored_value::StoredValue,
    },
};

/// A child of a step: a saga whose input is computed from an `X` that the step reads, and which gives an `O`. Made by
/// [`SagaName::child`].
pub struct Child<X, O> {
    definition: &'static str,
    start: Box<dyn Fn(&X) -> NewSaga + Send + Sync>,
    result: PhantomData<fn() -> O>,
}

/// Computes the items of a list: how many there are, and the children of those that are wanted.
type Items<X> = dyn Fn(&X, &[usize]) -> EachItems + Send + Sync;

/// Where the items of a list come from.
pub(super) enum ItemsFrom<X> {
    /// They are computed.
    List(Box<Items<X>>),
    /// They are read from the database.
    Pages(Box<dyn ErasedPages<X>>),
}

/// The children of a [`for_each`](crate::Saga::for_each): a saga for each item of a list that is computed from an `X`
/// which the step reads, or read with it from the database. Made by [`SagaName::each`] and [`SagaName::each_page`].
pub struct Each<X> {
    pub(super) definition: &'static str,
    pub(super) items: ItemsFrom<X>,
    pub(super) at_most: u32,
    pub(super) settled: bool,
}

impl<I: Serialize + 'static, O: 'static> SagaName<I, O> {
    /// A child of this definition, for a step with children. Its input is computed from what the step reads.
    pub fn child<X>(self, input: impl Fn(&X) -> I + Send + Sync + 'static) -> Child<X, O> {
        let start = Box::new(move |read: &X| self.with(&input(read)));
        Child { definition: self.name, start, result: PhantomData }
    }

    /// A child of this definition for each item, up to 10,000; a hundred are open at a time unless
    /// [`at_most`](Each::at_most) says otherwise. The list has to be the same whenever it is computed.
    pub fn each<X>(self, items: impl Fn(&X) -> Vec<I> + Send + Sync + 'static) -> Each<X> {
        let items = move |read: &X, wanted: &[usize]| {
            let items = items(read);
            let wanted = wanted.iter().filter_map(|position| items.get(*position));
            let children = wanted.map(|item| self.with(item)).collect();
            EachItems { total: items.len(), children }
        };
        Each::of(self.name, ItemsFrom::List(Box::new(items)))
    }

    /// As [`SagaName::each`], for items that are read from the database in pages, as children end: for a list that is in
    /// a table, and too large to be stored with the saga. Such a list may grow at its end meanwhile.
    pub fn each_page<P: ItemPages<Item = I>>(self, pages: P) -> Each<P::Input> {
        Each::of(self.name, ItemsFrom::Pages(Box::new(PagesOf { pages, child: self })))
    }
}

impl<X> Each<X> {
    /// How many children are open at a time, unless set.
    pub const AT_MOST: u32 = 100;

    fn of(definition: &'static str, items: ItemsFrom<X>) -> Self {
        Self { definition, items, at_most: Self::AT_MOST, settled: false }
    }

    /// Sets how many children are open at a time while the saga goes forward; with one, they come one after the other.
    /// If it compensates, all of them are undone at once.
    pub fn at_most(mut self, open: u32) -> Self {
        self.at_most = open.max(1);
        self
    }

    /// Makes every end of a child data: the step counts those that did not complete instead of failing with the first.
    pub fn settled(mut self) -> Self {
        self.settled = true;
        self
    }
}

impl<X, O> Child<X, O> {
    fn erased<L, At>(self, step: &'static str, sources: &[String]) -> ErasedChild
    where
        X: FromOutputs<L, At> + 'static,
    {
        let start = self.start;
        let input = StepInput::new::<L, At>(step, sources);
        ErasedChild {
            definition: self.definition,
            start: Computed::new(input, move |read: &X, ()| start(read)),
        }
    }
}

/// A tuple of two to eight [`Child`]ren whose inputs can be computed from the list `L`; the compiler infers `At`.
pub trait Children<L, At> {
    /// What they give, as a tuple in [`Joined`].
    type Results: Serialize + DeserializeOwned;
    /// How they ended, as a tuple of [`ChildEnd`]s in [`Joined`].
    type Ends: Serialize + DeserializeOwned;

    /// The places that each reads, in their order.
    #[doc(hidden)]
    fn places() -> Vec<Vec<usize>>;
    #[doc(hidden)]
    fn erased(self, step: &'static str, sources: &[Vec<String>]) -> ErasedChildren;
    #[doc(hidden)]
    fn results(ends: &[StoredEnd]) -> Result<StoredValue, String>;
    #[doc(hidden)]
    fn ends(ends: &[StoredEnd]) -> Result<StoredValue, String>;
}

/// Children with their types erased.
#[derive(Debug)]
pub struct ErasedChildren(pub(super) Vec<ErasedChild>);

/// A single child is no tuple, and gives what it gives.
impl<L, At, X, O> Children<L, At> for Child<X, O>
where
    X: FromOutputs<L, At> + 'static,
    O: Serialize + DeserializeOwned,
{
    type Results = O;
    type Ends = ChildEnd<O>;

    fn places() -> Vec<Vec<usize>> {
        vec![X::places()]
    }

    fn erased(self, step: &'static str, sources: &[Vec<String>]) -> ErasedChildren {
        ErasedChildren(vec![Child::erased::<L, At>(self, step, &sources[0])])
    }

    fn results(ends: &[StoredEnd]) -> Result<StoredValue, String> {
        encode(&result::<O>(ends, 0)?)
    }

    fn ends(ends: &[StoredEnd]) -> Result<StoredValue, String> {
        encode(&end::<O>(ends, 0)?)
    }
}

macro_rules! tuple {
    ($($x:ident $o:ident $at:ident $nth:tt),*) => {
        impl<L, $($x, $o, $at),*> Children<L, ($($at,)*)> for ($(Child<$x, $o>,)*)
        where
            $($x: FromOutputs<L, $at> + 'static, $o: Serialize + DeserializeOwned),*
        {
            type Results = Joined<($($o,)*)>;
            type Ends = Joined<($(ChildEnd<$o>,)*)>;

            fn places() -> Vec<Vec<usize>> {
                vec![$($x::places()),*]
            }

            fn erased(self, step: &'static str, sources: &[Vec<String>]) -> ErasedChildren {
                ErasedChildren(vec![$(Child::erased::<L, $at>(self.$nth, step, &sources[$nth])),*])
            }

            fn results(ends: &[StoredEnd]) -> Result<StoredValue, String> {
                encode(&($(result::<$o>(ends, $nth)?,)*))
            }

            fn ends(ends: &[StoredEnd]) -> Result<StoredValue, String> {
                encode(&($(end::<$o>(ends, $nth)?,)*))
            }
        }
    };
}

tuple!(X0 O0 A0 0, X1 O1 A1 1);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2, X3 O3 A3 3);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2, X3 O3 A3 3, X4 O4 A4 4);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2, X3 O3 A3 3, X4 O4 A4 4, X5 O5 A5 5);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2, X3 O3 A3 3, X4 O4 A4 4, X5 O5 A5 5, X6 O6 A6 6);
tuple!(X0 O0 A0 0, X1 O1 A1 1, X2 O2 A2 2, X3 O3 A3 3, X4 O4 A4 4, X5 O5 A5 5, X6 O6 A6 6, X7 O7 A7 7);

fn encode<T: Serialize>(output: &T) -> Result<StoredValue, String> {
    StoredValue::encode(output).map_err(|error| format!("the output {error}"))
}

/// What the child at this position gave. Only the results of children that completed are asked for.
fn result<O: DeserializeOwned>(ends: &[StoredEnd], position: usize) -> Result<O, String> {
    match ends.get(position) {
        Some(ChildEnd::Completed(given)) => decode(given.as_ref(), position),
        Some(ChildEnd::Compensated(_) | ChildEnd::GivenUp) | None => {
            Err(format!("its child {position} did not complete"))
        }
    }
}

fn end<O: DeserializeOwned>(ends: &[StoredEnd], position: usize) -> Result<ChildEnd<O>, String> {
    match ends.get(position) {
        Some(ChildEnd::Completed(given)) => decode(given.as_ref(), position).map(ChildEnd::Completed),
        Some(ChildEnd::Compensated(cause)) => Ok(ChildEnd::Compensated(cause.clone())),
        Some(ChildEnd::GivenUp) => Ok(ChildEnd::GivenUp),
        None => Err(format!("its child {position} is missing")),
    }
}

/// A definition that gives nothing gives `()`, which is `null`.
fn decode<O: DeserializeOwned>(given: Option<&StoredValue>, position: usize) -> Result<O, String> {
    let unreadable = |error| format!("the result of its child {position} can't be read: {error}");
    match given {
        Some(given) => given.decode().map_err(unreadable),
        None => serde_json::from_str("null").map_err(unreadable),
    }
}

impl<X, O> std::fmt::Debug for Child<X, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child").field("definition", &self.definition).finish_non_exhaustive()
    }
}

impl<X> std::fmt::Debug for Each<X> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Each")
            .field("definition", &self.definition)
            .field("at_most", &self.at_most)
            .finish_non_exhaustive()
    }
}
