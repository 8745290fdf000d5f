//! The cargo profile of this binary. Figures of an unoptimised build mean nothing, so `bench` refuses to run in one.

use crate::exit_error::ExitError;

/// The profile's name, such as `dist`.
pub(super) const PROFILE: &str = env!("SAGALINE_PROFILE");
const OPTIMISED: [&str; 2] = ["release", "dist"];

/// Checks that this binary may be measured.
///
/// # Errors
/// [`ExitError::Unusable`] in every profile but `release` and `dist`.
pub(super) fn check() -> Result<(), ExitError> {
    if OPTIMISED.contains(&PROFILE) {
        return Ok(());
    }
    Err(ExitError::Unusable(format!(
        "bench measures nothing in the profile `{PROFILE}`, which does not optimise: run \
         `cargo run --profile dist -- bench …` or `just bench …`"
    )))
}
