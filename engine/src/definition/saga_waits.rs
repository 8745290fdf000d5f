//! The builder's methods for steps that wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::{
    definition::{
        inputs::{FromOutputs, HCons, HList},
        saga::Saga,
    },
    model::{
        kinds::Placement,
        signal::{SignalMessage, SignalName, SignalWait, Signalled, Slept},
    },
};

impl<I, L: HList, O> Saga<I, L, O>
where
    I: serde::Serialize + DeserializeOwned + schemars::JsonSchema + Send + Sync + 'static,
{
    /// Adds a step that waits for a time. Meanwhile the saga holds no claim, no memory and no connection, and nothing asks
    /// for it. There is nothing to undo.
    pub fn sleep(mut self, name: &'static str, time: Duration) -> Saga<I, HCons<Slept, L>, O> {
        self.chain.sleep::<L>(name, time);
        self.retyped()
    }

    /// Adds a step that waits until a time that `until` computes from the saga's input or an earlier output, and from the
    /// database's time when the saga comes to the step. It is computed once; a time that has passed is no wait. All of it is
    /// UTC: where local time matters, as when clocks change, `until` decides.
    pub fn sleep_until<X, At>(
        mut self,
        name: &'static str,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Slept, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        self.chain.sleep_until::<L, X, At>(name, until);
        self.retyped()
    }

    /// Adds a step that waits for a signal, or until its time is over; later steps read which of both as [`Signalled`].
    /// Signals that come earlier are kept for it; the oldest is taken first.
    pub fn signal<T: SignalMessage>(
        mut self,
        name: &'static str,
        wait: SignalWait<T>,
    ) -> Saga<I, HCons<Signalled<T>, L>, O> {
        let placement = self.chain.next_placement();
        self.chain.signal::<L, T>(name, placement, wait);
        self.retyped()
    }

    /// As [`Saga::signal`], with a time-out that is computed as that of [`Saga::sleep_until`].
    pub fn signal_until<T: SignalMessage, X, At>(
        mut self,
        name: &'static str,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Signalled<T>, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        let placement = self.chain.next_placement();
        self.chain.signal_until::<L, T, X, At>(name, placement, signal, until);
        self.retyped()
    }

    /// Adds a wait for a signal as the pivot: once the signal has come or the time is over, the saga only goes forward. A
    /// signal that has come is taken even if the saga was cancelled or its deadline passed meanwhile; without one, the
    /// cancel or the deadline goes before a time that is over.
    pub fn pivot_signal<T: SignalMessage>(
        mut self,
        name: &'static str,
        wait: SignalWait<T>,
    ) -> Saga<I, HCons<Signalled<T>, L>, O> {
        self.chain.signal::<L, T>(name, Placement::Pivot, wait);
        self.retyped()
    }

    /// As [`Saga::pivot_signal`], with a time-out that is computed as that of [`Saga::sleep_until`].
    pub fn pivot_signal_until<T: SignalMessage, X, At>(
        mut self,
        name: &'static str,
        signal: SignalName<T>,
        until: impl Fn(&X, DateTime<Utc>) -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Saga<I, HCons<Signalled<T>, L>, O>
    where
        X: FromOutputs<L, At> + 'static,
    {
        self.chain.signal_until::<L, T, X, At>(name, Placement::Pivot, signal, until);
        self.retyped()
    }
}
