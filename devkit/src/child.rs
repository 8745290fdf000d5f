//! Ends servers that were started as child processes.

use std::process::Child;

/// Kills the process and waits for its end; has no effect on one that was already waited for.
pub(crate) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
