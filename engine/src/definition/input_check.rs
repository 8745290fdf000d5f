//! The check of a saga's input at its start, before anything is stored.

use serde::de::DeserializeOwned;

use crate::model::{
    error::StartError, json_pointer::json_pointer, outcome::Failure, stored_value::StoredValue,
};

/// What a definition demands of its input beyond its type.
pub(crate) type InputCheck<I> = dyn Fn(&I) -> Result<(), Failure> + Send + Sync;

/// Checks the JSON of an input; the flag says whether it is known to be of the definition's type.
pub(crate) type StoredInputCheck = dyn Fn(&StoredValue, bool) -> Result<(), StartError> + Send + Sync;

/// Checks the JSON of an input, and keeps what it was decoded to for the saga's steps.
///
/// # Errors
/// [`StartError::BadInput`] names the place that is not of the type `I`; [`StartError::Refused`] holds what `check` found.
pub(crate) fn check_stored_input<I: DeserializeOwned + Send + Sync + 'static>(
    input: &StoredValue,
    typed: bool,
    check: Option<&InputCheck<I>>,
) -> Result<(), StartError> {
    if typed && check.is_none() {
        return Ok(());
    }
    let mut json = serde_json::Deserializer::from_str(input.json().get());
    let decoded: I = serde_path_to_error::deserialize(&mut json).map_err(|error| StartError::BadInput {
        pointer: json_pointer(error.path()),
        reason: error.inner().to_string(),
    })?;
    let decoded = input.keep(decoded);
    check.map_or(Ok(()), |check| check(&decoded).map_err(StartError::Refused))
}
