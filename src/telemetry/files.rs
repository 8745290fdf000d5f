//! Log files: one a day for each kind of process, written by a separate thread; the oldest are deleted.

use std::path::Path;

use tracing_appender::{
    non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};

use crate::exit_error::ExitError;

/// The writer of lines, and the guard that writes the last of them when it is dropped.
pub(super) struct Files {
    pub(super) writer: NonBlocking,
    pub(super) lost: ErrorCounter,
    pub(super) guard: WorkerGuard,
}

/// Opens today's file `<name>.log.<date>` and deletes all but the newest of the earlier ones. Dates are UTC.
///
/// # Errors
/// [`ExitError::Unusable`] when the directory can't be made or written to.
pub(super) fn open(dir: &Path, keep_days: usize, name: &str) -> Result<Files, ExitError> {
    std::fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(format!("{name}.log"))
        // The limit includes today's file, even if it already exists, and today's file must not be deleted.
        .max_log_files(keep_days + 1)
        .build(dir)
        .map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            unusable(dir, &cause)
        })?;
    // Losing lines is better than letting requests wait for a disk; lost lines are counted.
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).thread_name("log-files").finish(appender);
    let lost = writer.error_counter();
    Ok(Files { writer, lost, guard })
}

fn unusable(dir: &Path, cause: &impl std::fmt::Display) -> ExitError {
    ExitError::Unusable(format!(
        "LOG_DIR is `{}`, where no log can be written: {cause}; name a directory that this user may write to, or \
         unset it",
        dir.display()
    ))
}
