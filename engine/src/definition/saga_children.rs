//! The builder's methods for steps with children.

use serde::de::DeserializeOwned;

use crate::{
    definition::{
        child::{Child, Children, Each},
        inputs::{FromOutputs, HCons, HList},
        saga::Saga,
    },
    model::{child::EachEnded, kinds::StepKind},
};

impl<I, L: HList, O> Saga<I, L, O>
where
    I: serde::Serialize + DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    /// Adds a step that starts another saga, its child, and waits for its end. Later steps read what the child gave.
    ///
    /// If the child does not complete, the step fails with the code `child-failed`. If the saga compensates, so does the
    /// child, even if it has completed: it is undone from behind its last step. So before the pivot a child has none.
    pub fn child<X, At, Given>(
        mut self,
        name: &'static str,
        child: Child<X, Given>,
    ) -> Saga<I, HCons<Given, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
        Given: serde::Serialize + DeserializeOwned,
    {
        self.chain.children::<L, _, At>(name, StepKind::Child, child, false);
        self.retyped()
    }

    /// As [`Saga::child`], but every end of the child is data: later steps read it as a
    /// [`ChildEnd`](crate::ChildEnd), and the step does not fail.
    pub fn child_settled<X, At, Given>(
        mut self,
        name: &'static str,
        child: Child<X, Given>,
    ) -> Saga<I, HCons<crate::model::child::ChildEnd<Given>, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
        Given: serde::Serialize + DeserializeOwned,
    {
        self.chain.children::<L, _, At>(name, StepKind::Child, child, true);
        self.retyped()
    }

    /// Adds a step that starts several sagas side by side, a tuple of two to eight, and waits for their ends. Later steps
    /// read what they gave, as a tuple in [`Joined`](crate::Joined).
    ///
    /// If one of them does not complete, the step fails: those that run are cancelled, and those that have completed are
    /// undone. All else is as with [`Saga::child`].
    pub fn parallel<At, C: Children<L, At>>(
        mut self,
        name: &'static str,
        children: C,
    ) -> Saga<I, HCons<C::Results, L>, O> {
        self.chain.children::<L, C, At>(name, StepKind::Parallel, children, false);
        self.retyped()
    }

    /// As [`Saga::parallel`], but every end of a child is data: later steps read a tuple of
    /// [`ChildEnd`](crate::ChildEnd)s in [`Joined`](crate::Joined), and the step does not fail.
    pub fn parallel_settled<At, C: Children<L, At>>(
        mut self,
        name: &'static str,
        children: C,
    ) -> Saga<I, HCons<C::Ends, L>, O> {
        self.chain.children::<L, C, At>(name, StepKind::Parallel, children, true);
        self.retyped()
    }

    /// Adds a step that starts a saga for each item of a list, some at a time, and waits for their ends. Later steps read
    /// how many there were.
    ///
    /// If one does not complete, the step fails, as with [`Saga::parallel`], unless it is
    /// [settled](Each::settled). A list of more than 10,000 fails the step.
    pub fn for_each<X, At>(mut self, name: &'static str, each: Each<X>) -> Saga<I, HCons<EachEnded, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        self.chain.for_each::<L, X, At>(name, each);
        self.retyped()
    }
}
