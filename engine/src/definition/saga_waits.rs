//! The builder's methods for steps that wait.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::{
    definition::{
        inputs::{FromOutputs, HCons, HList},
        saga::Saga,
        step_input::StepInput,
        wait::{AwaitedSignal, ComputedEnd, WaitAction, WaitEnd},
    },
    model::{
        graph::{Node, WaitNode},
        kinds::{Placement, StepKind, UndoKind},
        retry::RetryPolicy,
        signal::{SignalMessage, SignalName, SignalWait, Signalled, Slept},
        stored_value::StoredValues,
    },
};

impl<I, L: HList, O> Saga<I, L, O>
where
    I: serde::Serialize + DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    /// Adds a step that waits for a time. Meanwhile the saga holds no claim, no memory and no connection, and nothing asks
    /// for it. There is nothing to undo.
    pub fn sleep(self, name: &'static str, time: Duration) -> Saga<I, HCons<Slept, L>, O> {
        let placement = self.next_placement();
        self.wait(name, placement, WaitEnd::After(time), Vec::new(), None)
    }

    /// Adds a step that waits until a time that `until` computes from the saga's input or an earlier output, and from the
    /// database's time when the saga comes to the step. It is computed once; a time that has passed is no wait. All of it is
    /// UTC: where local time matters, as when clocks change, `until` decides.
    pub fn sleep_until<X, At>(
        self,
        name: &'static str,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Slept, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        let (placement, reads) = (self.next_placement(), self.read_names(&X::places()));
        let end = computed(StepInput::new::<L, At>(name, &reads), until);
        self.wait(name, placement, end, reads, None)
    }

    /// Adds a step that waits for a signal, or until its time is over; later steps read which of both as [`Signalled`].
    /// Signals that come earlier are kept for it; the oldest is taken first.
    pub fn signal<T: SignalMessage>(
        self,
        name: &'static str,
        wait: SignalWait<T>,
    ) -> Saga<I, HCons<Signalled<T>, L>, O> {
        let placement = self.next_placement();
        self.wait(
            name,
            placement,
            WaitEnd::After(wait.longest),
            Vec::new(),
            Some(AwaitedSignal::of(wait.signal)),
        )
    }

    /// As [`Saga::signal`], with a time-out that is computed as that of [`Saga::sleep_until`].
    pub fn signal_until<T: SignalMessage, X, At>(
        self,
        name: &'static str,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Signalled<T>, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        let (placement, reads) = (self.next_placement(), self.read_names(&X::places()));
        let end = computed(StepInput::new::<L, At>(name, &reads), until);
        self.wait(name, placement, end, reads, Some(AwaitedSignal::of(signal)))
    }

    /// Adds a wait for a signal as the pivot: once the signal has come or the time is over, the saga only goes forward. A
    /// signal that has come is taken even if the saga was cancelled or its deadline passed meanwhile; without one, the
    /// cancel or the deadline goes before a time that is over.
    pub fn pivot_signal<T: SignalMessage>(
        self,
        name: &'static str,
        wait: SignalWait<T>,
    ) -> Saga<I, HCons<Signalled<T>, L>, O> {
        let signal = Some(AwaitedSignal::of(wait.signal));
        self.wait(name, Placement::Pivot, WaitEnd::After(wait.longest), Vec::new(), signal)
    }

    /// As [`Saga::pivot_signal`], with a time-out that is computed as that of [`Saga::sleep_until`].
    pub fn pivot_signal_until<T: SignalMessage, X, At>(
        self,
        name: &'static str,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Signalled<T>, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        let reads = self.read_names(&X::places());
        let end = computed(StepInput::new::<L, At>(name, &reads), until);
        self.wait(name, Placement::Pivot, end, reads, Some(AwaitedSignal::of(signal)))
    }

    fn wait<T>(
        self,
        name: &'static str,
        placement: Placement,
        end: WaitEnd,
        reads: Vec<String>,
        signal: Option<AwaitedSignal>,
    ) -> Saga<I, HCons<T, L>, O> {
        let longest = match &end {
            WaitEnd::After(time) => Some(*time),
            WaitEnd::At(_) => None,
        };
        let node = Node {
            name: name.into(),
            kind: if signal.is_some() { StepKind::Signal } else { StepKind::Sleep },
            entry: false,
            placement,
            undo: UndoKind::NothingToUndo,
            after: self.last_name(),
            reads,
            retry: RetryPolicy::TRANSACTION,
            undo_retry: RetryPolicy::UNDO,
            wait: Some(WaitNode {
                longest,
                signal: signal.as_ref().map(|signal| signal.name.into()),
                only_new: signal.as_ref().is_some_and(|signal| signal.only_new),
                message_schema: signal.as_ref().map(|signal| (signal.schema)()),
            }),
        };
        self.push(node, Arc::new(WaitAction { name, end, signal, output_index: L::LENGTH }))
    }
}

fn computed<X: 'static>(
    input: StepInput<X>,
    until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
) -> WaitEnd {
    let input = Arc::new(input);
    let read = {
        let input = input.clone();
        Box::new(move |values: &StoredValues| input.read(values).map(drop))
    };
    let compute = Box::new(move |values: &StoredValues, now| Ok(until(&input.read(values)?, now)));
    WaitEnd::At(Box::new(ComputedEnd { read, compute }))
}
