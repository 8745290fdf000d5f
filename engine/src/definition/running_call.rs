//! What a call and the engine tell each other while the call runs: how far it is, and that its saga was cancelled.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::progress::Progress;

/// One call that runs in this process.
pub(crate) struct RunningCall {
    reports: Mutex<Reports>,
    /// Told when there is a report to be written.
    reported: Arc<Notify>,
    /// Cancelled when the saga was cancelled, or its deadline passed.
    pub(crate) cancellation: CancellationToken,
}

/// The newest report. The earlier ones are forgotten.
#[derive(Default)]
struct Reports {
    newest: Option<(Progress, Instant)>,
    /// How many there were.
    count: u64,
    /// The number of the last that is written.
    written: u64,
}

/// A report that is to be written.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) progress: Progress,
    pub(crate) age: Duration,
    number: u64,
}

impl RunningCall {
    pub(crate) fn new(reported: Arc<Notify>) -> Self {
        Self { reports: Mutex::default(), reported, cancellation: CancellationToken::new() }
    }

    pub(crate) fn report(&self, progress: Progress) {
        let mut reports = self.reports.lock();
        if reports.newest.as_ref().is_some_and(|(newest, _)| *newest == progress) {
            return;
        }
        reports.newest = Some((progress, Instant::now()));
        reports.count += 1;
        drop(reports);
        self.reported.notify_one();
    }

    /// The newest report, unless it is written.
    pub(crate) fn unwritten(&self) -> Option<Report> {
        let reports = self.reports.lock();
        let (progress, at) = reports.newest.as_ref().filter(|_| reports.written < reports.count)?;
        Some(Report { progress: progress.clone(), age: at.elapsed(), number: reports.count })
    }

    /// Notes that this report is written.
    pub(crate) fn wrote(&self, report: &Report) {
        self.reports.lock().written = report.number;
    }
}

impl fmt::Debug for RunningCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_cancelled = self.cancellation.is_cancelled();
        f.debug_struct("RunningCall").field("is_cancelled", &is_cancelled).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_report_is_written_and_only_once() {
        let call = RunningCall::new(Arc::default());
        assert!(call.unwritten().is_none());
        call.report(Progress::of(1, 3));
        call.report(Progress::of(2, 3));
        let report = call.unwritten().unwrap();
        assert_eq!(report.progress, Progress::of(2, 3));
        call.report(Progress::of(3, 3));
        call.wrote(&report);
        assert_eq!(call.unwritten().unwrap().progress, Progress::of(3, 3), "it came during the write");
        call.wrote(&call.unwritten().unwrap());
        call.report(Progress::of(3, 3));
        assert!(call.unwritten().is_none(), "nothing has changed");
    }
}
