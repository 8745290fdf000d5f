//! Jitter for the pauses of this process. Times that are stored come from the database's clock only.

use std::time::Duration;

/// Spreads a pause evenly from half to one and a half of its length, so that processes don't poll in lockstep.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}
