//! The stored input and outputs of a saga. Each is decoded once, however many steps read it.
//!
//! [`StoredValue`] is the only place where a payload (an input or an output) becomes what is stored, or is read from it:
//! [`StoredValue::encode`] and [`StoredValue::decode`]. What is stored is the payload's JSON as it is. A codec that
//! compresses or encrypts would belong here, and nothing else would have to know it.

use std::{
    any::Any,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::model::nul_character::json_holds_nul;

/// A value of which all steps of a saga share one decoded copy: `type Input = Shared<Order>` reads the same value as
/// `Order`, but does not decode it again for every step.
///
/// The value is decoded from the stored JSON, never taken from the step that produced it, so that a step reads the same
/// value before and after a crash.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        &self.0
    }
}

/// Lets tests call a step's code directly.
impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

/// Stored JSON, and the value of the first type to which it was decoded.
#[derive(Clone)]
pub struct StoredValue(Arc<Inner>);

struct Inner {
    stored: Arc<RawValue>,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// Why a payload can't be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("can't be written as JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("holds a NUL character, which PostgreSQL can't store")]
    HoldsNul,
}

/// A payload that is larger than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) size: usize,
    pub(crate) limit: usize,
}

impl StoredValue {
    /// Encodes a payload.
    pub(crate) fn encode<T: Serialize + ?Sized>(payload: &T) -> Result<Self, EncodeError> {
        let json = serde_json::value::to_raw_value(payload)?;
        if json_holds_nul(json.get()) {
            return Err(EncodeError::HoldsNul);
        }
        Ok(json.into())
    }

    /// The JSON to be stored.
    pub(crate) fn stored(&self) -> &Arc<RawValue> {
        &self.0.stored
    }

    /// The payload as JSON.
    pub(crate) fn json(&self) -> &Arc<RawValue> {
        &self.0.stored
    }

    /// The payload as a JSON value; `null` if it is none, which no stored payload is.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        self.decode().unwrap_or_default()
    }

    /// Checks the size of what would be stored.
    pub(crate) fn check_size(&self, limit: usize) -> Result<(), TooLarge> {
        let size = self.0.stored.get().len();
        if size > limit { Err(TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Decodes the payload for one reader.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json().get())
    }

    /// Returns the shared decoded value; decodes the JSON if no earlier reader had the same type.
    pub(crate) fn shared<T>(&self) -> Result<Shared<T>, serde_json::Error>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        if let Some(known) = self.0.decoded.get()
            && let Ok(known) = known.clone().downcast::<T>()
        {
            return Ok(Shared(known));
        }
        Ok(self.keep(self.decode()?))
    }

    /// Stores a decoded value for later readers. Only the first one is stored, whatever its type.
    pub(crate) fn keep<T: Send + Sync + 'static>(&self, decoded: T) -> Shared<T> {
        let decoded = Arc::new(decoded);
        let _ = self.0.decoded.set(decoded.clone());
        Shared(decoded)
    }
}

impl std::fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.stored.fmt(f)
    }
}

/// What the database holds of a payload.
impl From<Box<RawValue>> for StoredValue {
    fn from(stored: Box<RawValue>) -> Self {
        Self(Arc::new(Inner { stored: Arc::from(stored), decoded: OnceLock::new() }))
    }
}

/// The stored values of one saga. Index zero is its input; index `n + 1` is the output of step `n`.
#[derive(Clone, Debug)]
pub struct StoredValues(Arc<Vec<Option<StoredValue>>>);

impl StoredValues {
    pub(crate) fn new(input: StoredValue) -> Self {
        Self(Arc::new(vec![Some(input)]))
    }

    pub(crate) fn input(&self) -> Option<&StoredValue> {
        self.get(0)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&StoredValue> {
        self.0.get(index).and_then(Option::as_ref)
    }

    pub(crate) fn set(&mut self, index: usize, value: Option<StoredValue>) {
        let values = Arc::make_mut(&mut self.0);
        if values.len() <= index {
            values.resize(index + 1, None);
        }
        values[index] = value;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde::{Deserialize, Deserializer};

    use super::*;

    static DECODED: AtomicUsize = AtomicUsize::new(0);

    #[derive(Debug)]
    struct Counted {
        number: u32,
    }

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            u32::deserialize(deserializer).map(|number| Self { number })
        }
    }

    fn stored(json: &str) -> StoredValue {
        RawValue::from_string(json.into()).map(StoredValue::from).expect("it is JSON")
    }

    #[test]
    fn readers_of_one_type_share_one_copy() {
        let value = stored("7");
        let clone = value.clone();
        assert_eq!(value.shared::<Counted>().expect("it is a number").number, 7);
        assert_eq!(clone.shared::<Counted>().expect("it is a number").number, 7);
        assert_eq!(DECODED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_reader_of_another_type_decodes_for_itself() {
        let value = stored("7");
        assert_eq!(*value.shared::<u32>().expect("it is a number"), 7);
        assert_eq!(*value.shared::<u64>().expect("it is a number"), 7);
        assert!(value.shared::<String>().is_err());
    }
}
