//! Checks each part, each with its own time-out.

use std::collections::BTreeSet;

use breakers::{BreakerState, Dependency};
use engine::QueueView;
use shop::{
    breaker_reports::{self, ReportedBreaker},
    notifications::QUEUE as MAILS,
};

use super::body::{BreakersHealth, Health, HealthParts, HealthState, MailHealth, QueueHealth};
use super::mail::MailState;
use super::{database, sources::HealthSources};

/// Work that has been due for longer than this is late.
const LATE_MS: i64 = 60_000;

/// Checks every part.
pub(super) async fn check_all(sources: &HealthSources) -> Health {
    let database = database::check(sources).await;
    let reports = match database.state {
        HealthState::Up | HealthState::Degraded | HealthState::Draining => reports(sources).await,
        HealthState::Down | HealthState::Unknown => None,
    };
    let queue = match database.state {
        HealthState::Up | HealthState::Degraded | HealthState::Draining => {
            queue(sources, reports.as_deref().unwrap_or_default()).await
        }
        HealthState::Down | HealthState::Unknown => unknown("the database does not answer"),
    };
    let mail = mail((sources.mail)(), reports.as_deref().unwrap_or_default());
    let breakers = breakers(reports.as_deref());
    let well = [queue.state, mail.state, breakers.state].iter().all(|state| *state == HealthState::Up);
    let status = match database.state {
        HealthState::Down | HealthState::Unknown => HealthState::Down,
        HealthState::Up if well => HealthState::Up,
        HealthState::Up | HealthState::Degraded | HealthState::Draining => HealthState::Degraded,
    };
    Health { status, parts: HealthParts { database, queue, mail, breakers } }
}

async fn queue(sources: &HealthSources, reports: &[ReportedBreaker]) -> QueueHealth {
    let engine = sources.engine.clone();
    // In a task of its own, so that the time-out never drops a query half-way.
    let asked = tokio::spawn(async move { engine.queues().await });
    let queues = match tokio::time::timeout(sources.timeout, asked).await {
        Ok(Ok(Ok(queues))) => queues,
        Ok(Ok(Err(_)) | Err(_)) => return unknown("it could not be read"),
        Err(_) => return unknown("no answer in time"),
    };
    // Mails wait on purpose while the circuit breaker of the mail server is not closed.
    let held_back: &[&str] = if mails_are_held_back(reports) { &[MAILS] } else { &[] };
    let detail = unusual(&queues, held_back);
    QueueHealth {
        state: if detail.is_some() { HealthState::Degraded } else { HealthState::Up },
        detail,
        due: Some(queues.iter().map(|queue| queue.due).sum()),
        waiting: Some(queues.iter().map(|queue| queue.waiting).sum()),
        leased: Some(queues.iter().map(|queue| queue.leased).sum()),
        oldest_due_ms: queues.iter().map(|queue| queue.oldest_due_ms).max().or(Some(0)),
    }
}

/// Describes what is unusual: work that waits although its queue is not paused, and why; and the paused queues. `None`
/// when all is well.
fn unusual(queues: &[QueueView], held_back: &[&str]) -> Option<String> {
    let (paused, running): (Vec<_>, Vec<_>) = queues.iter().partition(|queue| queue.paused);
    let late = running.into_iter().filter(|queue| queue.oldest_due_ms > LATE_MS);
    let (mails, others): (Vec<_>, Vec<_>) = late.partition(|queue| held_back.contains(&queue.name.as_str()));
    let others = (!others.is_empty())
        .then(|| "work has been due for more than a minute: are workers running?".to_owned());
    let mails = (!mails.is_empty())
        .then(|| "mails have waited for more than a minute: the mail server fails".to_owned());
    let names: Vec<_> = paused.iter().map(|queue| format!("`{}`", queue.name)).collect();
    let paused = (!names.is_empty()).then(|| format!("paused: {}", names.join(", ")));
    let all: Vec<_> = others.into_iter().chain(mails).chain(paused).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn mails_are_held_back(reports: &[ReportedBreaker]) -> bool {
    let is_smtp = |report: &&ReportedBreaker| report.dependency == Dependency::Smtp.name();
    reports.iter().filter(is_smtp).any(|report| report.state.0 != BreakerState::Closed)
}

fn unknown(detail: &str) -> QueueHealth {
    QueueHealth {
        state: HealthState::Unknown,
        detail: Some(detail.into()),
        due: None,
        waiting: None,
        leased: None,
        oldest_due_ms: None,
    }
}

/// Reads the breakers of all processes; `None` when they could not be read.
async fn reports(sources: &HealthSources) -> Option<Vec<ReportedBreaker>> {
    let pool = sources.pool.clone();
    // In a task of its own, so that the time-out never drops a query half-way.
    let asked = tokio::spawn(async move { breaker_reports::list(&pool).await });
    tokio::time::timeout(sources.timeout, asked).await.ok()?.ok()?.ok()
}

fn breakers(reports: Option<&[ReportedBreaker]>) -> BreakersHealth {
    let Some(reports) = reports else {
        let detail = Some("they could not be read".into());
        return BreakersHealth { state: HealthState::Unknown, detail, not_closed: Vec::new() };
    };
    let not_closed: BTreeSet<_> = reports
        .iter()
        .filter(|report| report.state.0 != BreakerState::Closed)
        .map(|report| report.dependency.clone())
        .collect();
    let (state, detail) = if not_closed.is_empty() {
        (HealthState::Up, None)
    } else {
        (HealthState::Degraded, Some("what is held back waits and loses no attempt".into()))
    };
    BreakersHealth { state, detail, not_closed: not_closed.into_iter().collect() }
}

/// Combines the state in this process with that in all processes: this one may send no mails at all.
fn mail(here: MailState, reports: &[ReportedBreaker]) -> MailHealth {
    let states = reports
        .iter()
        .filter(|report| report.dependency == Dependency::Smtp.name())
        .map(|report| report.state.0)
        .chain([match here {
            MailState::Up => BreakerState::Closed,
            MailState::Probing => BreakerState::HalfOpen,
            MailState::Down => BreakerState::Open,
        }]);
    let worst = states.max().unwrap_or(BreakerState::Closed);
    let state = match worst {
        BreakerState::Closed => MailState::Up,
        BreakerState::HalfOpen => MailState::Probing,
        BreakerState::Open => MailState::Down,
    };
    let (state, detail) = match state {
        MailState::Up => (HealthState::Up, None),
        MailState::Probing => (HealthState::Degraded, Some("it was down and is being tried again")),
        MailState::Down => (HealthState::Down, Some("it fails; mails wait and lose no attempt")),
    };
    MailHealth { state, detail: detail.map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, paused: bool, oldest_due_ms: i64) -> QueueView {
        let (name, [paused_by, reason], since) = (name.into(), [None, None], None);
        QueueView {
            name,
            paused,
            paused_by,
            reason,
            since,
            due: 1,
            waiting: 0,
            leased: 0,
            oldest_due_ms,
            version: 0,
        }
    }

    #[test]
    fn a_paused_queue_does_not_count_as_late() {
        assert_eq!(unusual(&[queue("default", false, LATE_MS)], &[]), None);
        let late = unusual(&[queue("default", false, LATE_MS + 1)], &[]).expect("it is late");
        assert!(late.contains("workers") && !late.contains("paused"), "{late}");
        let paused = [queue("default", true, LATE_MS * 5), queue("notifications", false, 0)];
        assert_eq!(unusual(&paused, &[]).as_deref(), Some("paused: `default`"));
        let both = [queue("default", true, 0), queue("notifications", false, LATE_MS * 5)];
        let both = unusual(&both, &[]).expect("one is late");
        assert!(both.contains("workers") && both.ends_with("`default`"), "{both}");
    }

    #[test]
    fn mails_that_wait_for_the_server_are_late_for_another_reason() {
        let late = |name| queue(name, false, LATE_MS + 1);
        let described = |queues: &[QueueView]| unusual(queues, &[MAILS]).unwrap_or_default();
        assert_eq!(
            described(&[late(MAILS)]),
            "mails have waited for more than a minute: the mail server fails"
        );
        let both = described(&[late("default"), late(MAILS)]);
        assert!(both.contains("are workers running") && both.contains("the mail server fails"), "{both}");
        let closed = unusual(&[late(MAILS)], &[]).unwrap_or_default();
        assert!(closed.contains("are workers running") && !closed.contains("mail server"), "{closed}");
    }
}
