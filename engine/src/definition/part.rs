//! An arm of a choice under construction.

use std::{marker::PhantomData, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    definition::{
        chain::Chain,
        child::{Child, Children, Each},
        inputs::{FromOutputs, HCons, HList, HNil, Hidden, Perhaps, Within},
        label::Of,
        step::{CallStep, TransactionStep},
    },
    model::{
        child::{ChildEnd, EachEnded},
        kinds::StepKind,
        signal::{SignalMessage, SignalName, SignalWait, Signalled, Slept},
    },
};

/// An arm of a choice under construction: `Own` lists the outputs of its steps so far, `Base` what its steps can read from
/// before the choice. It has the methods of [`Saga`](crate::Saga) for all steps but the pivot, which no saga may leave out.
pub struct Part<Own, Base> {
    chain: Chain,
    types: PhantomData<fn(Base) -> Own>,
}

impl<Base> Part<HNil, Base> {
    pub(super) fn begin(chain: Chain) -> Self {
        Self { chain, types: PhantomData }
    }
}

impl<Own: HList, Base: HList> Part<Own, Base> {
    /// Adds a transaction step.
    pub fn then<S: TransactionStep, At>(mut self, step: S) -> Part<HCons<S::Output, Own>, Base>
    where
        S::Input: FromOutputs<Within<Own, Base>, At>,
    {
        let placement = self.chain.next_placement();
        self.chain.transaction::<S, Within<Own, Base>, At>(step, placement, false);
        self.retyped()
    }

    /// Adds a call step.
    pub fn then_call<S: CallStep, At>(mut self, step: S) -> Part<HCons<S::Output, Own>, Base>
    where
        S::Input: FromOutputs<Within<Own, Base>, At>,
    {
        let placement = self.chain.next_placement();
        self.chain.call::<S, Within<Own, Base>, At>(step, placement);
        self.retyped()
    }

    /// As [`Saga::sleep`](crate::Saga::sleep).
    pub fn sleep(mut self, name: &'static str, time: Duration) -> Part<HCons<Slept, Own>, Base> {
        self.chain.sleep::<Within<Own, Base>>(name, time);
        self.retyped()
    }

    /// As [`Saga::sleep_until`](crate::Saga::sleep_until).
    pub fn sleep_until<X, At>(
        mut self,
        name: &'static str,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Part<HCons<Slept, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
    {
        self.chain.sleep_until::<Within<Own, Base>, X, At>(name, until);
        self.retyped()
    }

    /// As [`Saga::signal`](crate::Saga::signal).
    pub fn signal<T: SignalMessage>(
        mut self,
        name: &'static str,
        wait: SignalWait<T>,
    ) -> Part<HCons<Signalled<T>, Own>, Base> {
        let placement = self.chain.next_placement();
        self.chain.signal::<Within<Own, Base>, T>(name, placement, wait);
        self.retyped()
    }

    /// As [`Saga::signal_until`](crate::Saga::signal_until).
    pub fn signal_until<T: SignalMessage, X, At>(
        mut self,
        name: &'static str,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Part<HCons<Signalled<T>, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
    {
        let placement = self.chain.next_placement();
        self.chain.signal_until::<Within<Own, Base>, T, X, At>(name, placement, signal, until);
        self.retyped()
    }

    /// As [`Saga::child`](crate::Saga::child).
    pub fn child<X, At, Given>(
        mut self,
        name: &'static str,
        child: Child<X, Given>,
    ) -> Part<HCons<Given, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
        Given: Serialize + DeserializeOwned,
    {
        self.chain.children::<Within<Own, Base>, _, At>(name, StepKind::Child, child, false);
        self.retyped()
    }

    /// As [`Saga::child_settled`](crate::Saga::child_settled).
    pub fn child_settled<X, At, Given>(
        mut self,
        name: &'static str,
        child: Child<X, Given>,
    ) -> Part<HCons<ChildEnd<Given>, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
        Given: Serialize + DeserializeOwned,
    {
        self.chain.children::<Within<Own, Base>, _, At>(name, StepKind::Child, child, true);
        self.retyped()
    }

    /// As [`Saga::parallel`](crate::Saga::parallel).
    pub fn parallel<At, C: Children<Within<Own, Base>, At>>(
        mut self,
        name: &'static str,
        children: C,
    ) -> Part<HCons<C::Results, Own>, Base> {
        self.chain.children::<Within<Own, Base>, C, At>(name, StepKind::Parallel, children, false);
        self.retyped()
    }

    /// As [`Saga::parallel_settled`](crate::Saga::parallel_settled).
    pub fn parallel_settled<At, C: Children<Within<Own, Base>, At>>(
        mut self,
        name: &'static str,
        children: C,
    ) -> Part<HCons<C::Ends, Own>, Base> {
        self.chain.children::<Within<Own, Base>, C, At>(name, StepKind::Parallel, children, true);
        self.retyped()
    }

    /// As [`Saga::for_each`](crate::Saga::for_each).
    pub fn for_each<X, At>(mut self, name: &'static str, each: Each<X>) -> Part<HCons<EachEnded, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
    {
        self.chain.for_each::<Within<Own, Base>, X, At>(name, each);
        self.retyped()
    }

    /// As [`Saga::when`](crate::Saga::when).
    pub fn when<X, At, Arm: HList>(
        mut self,
        name: &'static str,
        predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
        yes: impl FnOnce(Part<HNil, Within<Own, Base>>) -> Part<Arm, Within<Own, Base>>,
    ) -> Part<Perhaps<Arm, Own>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
    {
        self.chain = when::<Within<Own, Base>, X, At, Arm>(self.chain, name, predicate, yes);
        self.retyped()
    }

    /// As [`Saga::either`](crate::Saga::either).
    pub fn either<X, At, O, A: HList, B: HList>(
        mut self,
        name: &'static str,
        predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
        yes: impl FnOnce(Part<HNil, Within<Own, Base>>) -> Part<HCons<O, A>, Within<Own, Base>>,
        no: impl FnOnce(Part<HNil, Within<Own, Base>>) -> Part<HCons<O, B>, Within<Own, Base>>,
    ) -> Part<HCons<O, Hidden<A, B, Own>>, Base>
    where
        X: FromOutputs<Within<Own, Base>, At> + 'static,
    {
        self.chain = either::<Within<Own, Base>, X, At, O, A, B>(self.chain, name, predicate, yes, no);
        self.retyped()
    }

    fn retyped<Other>(self) -> Part<Other, Base> {
        Part { chain: self.chain, types: PhantomData }
    }
}

impl<T, Own, Base> Part<HCons<T, Own>, Base> {
    /// As [`Saga::labelled`](crate::Saga::labelled).
    pub fn labelled<Label>(self) -> Part<HCons<Of<Label, T>, Own>, Base> {
        Part { chain: self.chain, types: PhantomData }
    }
}

impl<Own, Base> std::fmt::Debug for Part<Own, Base> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("steps", &self.chain.nodes).finish_non_exhaustive()
    }
}

/// Adds a choice with one arm to a chain that reads from the list `L`.
pub(super) fn when<L: HList, X, At, Own: HList>(
    mut chain: Chain,
    name: &'static str,
    predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
    yes: impl FnOnce(Part<HNil, L>) -> Part<Own, L>,
) -> Chain
where
    X: FromOutputs<L, At> + 'static,
{
    let arms = chain.choose::<L, X, At>(name, predicate);
    let mut chain = yes(Part::begin(chain)).chain;
    chain.end_when(arms);
    chain
}

/// Adds a choice with two arms that give one type to a chain that reads from the list `L`.
pub(super) fn either<L: HList, X, At, O, A: HList, B: HList>(
    mut chain: Chain,
    name: &'static str,
    predicate: impl Fn(&X) -> bool + Send + Sync + 'static,
    yes: impl FnOnce(Part<HNil, L>) -> Part<HCons<O, A>, L>,
    no: impl FnOnce(Part<HNil, L>) -> Part<HCons<O, B>, L>,
) -> Chain
where
    X: FromOutputs<L, At> + 'static,
{
    let mut arms = chain.choose::<L, X, At>(name, predicate);
    let mut chain = yes(Part::begin(chain)).chain;
    chain.turn(&mut arms);
    let mut chain = no(Part::begin(chain)).chain;
    chain.end_either(arms, <Hidden<A, B, L>>::LENGTH);
    chain
}
