//! Log files: one a day for each kind of process, the oldest thrown away, written by a thread of their own.

use std::path::Path;

use tracing_appender::{
    non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};

use crate::{config::LogFiles, exit_error::ExitError};

/// Where lines go, and what writes the last of them when it is dropped.
pub(super) struct Files {
    pub(super) writer: NonBlocking,
    pub(super) lost: ErrorCounter,
    pub(super) guard: WorkerGuard,
}

/// Opens today's file `<name>.log.<date>` and throws away all but the newest of those before. Dates are UTC.
///
/// # Errors
/// [`ExitError::Unusable`] when the directory can't be made or written to.
pub(super) fn open(files: &LogFiles, name: &str) -> Result<Files, ExitError> {
    let dir = &files.dir;
    std::fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(format!("{name}.log"))
        // It counts today's file even when that is there already, and must never throw that one away.
        .max_log_files(files.keep_days + 1)
        .build(dir)
        .map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            unusable(dir, &cause)
        })?;
    // Losing lines is better than having requests wait for a disk; that it happened is counted.
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
