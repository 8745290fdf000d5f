//! Local waiting. Wall-clock time comes from the database alone; here is only how long this process pauses.

use std::time::Duration;

/// Spreads a pause evenly over half to one and a half times its length, so that processes don't beat in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}
