//! What a step that waits knows: when its time is over, and which signal ends it before, with the types erased.

use std::{any::TypeId, time::Duration};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;

use crate::{
    definition::computed::{Computed, Uncomputed},
    model::{
        json_pointer::json_pointer,
        signal::{SignalError, SignalMessage, SignalName, Signalled, Slept},
        stored_value::{StoredValue, StoredValues},
    },
    support::user_code::catch_panic,
};

/// When a wait ends at the latest.
pub(crate) enum WaitEnd {
    /// So long after the saga came to it.
    After(Duration),
    /// At a time that is computed from what the saga has stored.
    At(Computed<DateTime<Utc>, DateTime<Utc>>),
}

/// The code of a step that waits.
pub(crate) struct WaitAction {
    pub(super) name: &'static str,
    pub(super) end: WaitEnd,
    pub(super) signal: Option<AwaitedSignal>,
    pub(super) output_index: usize,
}

/// The signal that ends a wait, with its message's type erased.
pub(crate) struct AwaitedSignal {
    pub(crate) name: &'static str,
    pub(crate) only_new: bool,
    pub(crate) message: TypeId,
    pub(super) schema: fn() -> serde_json::Value,
    check: fn(&StoredValue) -> Result<(), SignalError>,
    received: fn(&StoredValue) -> Result<StoredValue, String>,
    read_output: fn(&StoredValue) -> Result<(), serde_json::Error>,
}

impl AwaitedSignal {
    pub(super) fn of<T: SignalMessage>(signal: SignalName<T>) -> Self {
        Self {
            name: signal.name(),
            only_new: signal.takes_only_new(),
            message: TypeId::of::<T>(),
            schema: || schemars::schema_for!(T).to_value(),
            check: check::<T>,
            received: received::<T>,
            read_output: |output| output.decode::<Signalled<T>>().map(drop),
        }
    }

    /// Checks that a message is of the type that the saga waits for.
    ///
    /// # Errors
    /// [`SignalError::BadMessage`].
    pub(crate) fn check(&self, message: &StoredValue) -> Result<(), SignalError> {
        (self.check)(message)
    }

    /// The output of the step when this message has come.
    ///
    /// # Errors
    /// Why the message can't be read.
    pub(crate) fn received(&self, message: &StoredValue) -> Result<StoredValue, String> {
        (self.received)(message)
    }
}

fn check<T: DeserializeOwned>(message: &StoredValue) -> Result<(), SignalError> {
    let mut json = serde_json::Deserializer::from_str(message.json().get());
    let decoded = catch_panic(|| serde_path_to_error::deserialize::<_, T>(&mut json).map(drop));
    let decoded = decoded.map_err(|failure| SignalError::BadMessage {
        pointer: String::new(),
        reason: format!("what reads it {failure}"),
    })?;
    decoded.map_err(|error| SignalError::BadMessage {
        pointer: json_pointer(error.path()),
        reason: error.inner().to_string(),
    })
}

fn received<T: SignalMessage>(message: &StoredValue) -> Result<StoredValue, String> {
    let read = catch_panic(|| {
        let decoded: T = message.decode().map_err(|error| error.to_string())?;
        encode(&Signalled::Received(decoded))
    });
    read.unwrap_or_else(|failure| Err(format!("what reads it {failure}")))
}

fn encode<T: serde::Serialize>(output: &T) -> Result<StoredValue, String> {
    StoredValue::encode(output).map_err(|error| format!("the output {error}"))
}

impl WaitAction {
    pub(crate) fn signal(&self) -> Option<&AwaitedSignal> {
        self.signal.as_ref()
    }

    /// When the wait ends at the latest that a saga enters `now`.
    ///
    /// # Errors
    /// Why the time can't be computed.
    pub(crate) fn ends_at(
        &self,
        values: &StoredValues,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, Uncomputed> {
        match &self.end {
            // The builder refuses waits that are too long for this.
            WaitEnd::After(time) => Ok(now + *time),
            WaitEnd::At(end) => end.of(values, now, || format!("what computes the time of `{}`", self.name)),
        }
    }

    /// Reads what the time is computed from.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub(super) fn read_values(&self, values: &StoredValues) -> Result<(), String> {
        match &self.end {
            WaitEnd::After(_) => Ok(()),
            WaitEnd::At(end) => end.read(values),
        }
    }

    /// Reads the step's own output, if it is stored.
    ///
    /// # Errors
    /// What can't be read, and why.
    pub(super) fn read_stored_output(&self, values: &StoredValues) -> Result<(), String> {
        let Some(stored) = values.get(self.output_index) else { return Ok(()) };
        let read = match &self.signal {
            Some(signal) => (signal.read_output)(stored),
            None => stored.decode::<Slept>().map(drop),
        };
        read.map_err(|error| format!("the stored output of `{}` can't be read: {error}", self.name))
    }

    /// The output of the step when its time is over.
    ///
    /// # Errors
    /// Why it can't be stored.
    pub(crate) fn time_is_over(&self, until: DateTime<Utc>) -> Result<StoredValue, String> {
        match self.signal {
            Some(_) => encode(&Signalled::<()>::TimedOut),
            None => encode(&Slept { until }),
        }
    }
}
