//! Prints the figures, for people or for programs.

use std::time::Duration;

use serde_json::json;

use super::{arguments::Arguments, load::Load, profile::PROFILE, server::ServerFigures};
use crate::terminal;

/// Prints the measurements.
pub(super) fn print(subject: &str, arguments: &Arguments, load: &Load, server: &ServerFigures) {
    if arguments.json {
        terminal::print(as_json(subject, arguments, load, server));
    } else {
        as_table(subject, arguments, load, server);
    }
}

fn as_json(subject: &str, arguments: &Arguments, load: &Load, server: &ServerFigures) -> serde_json::Value {
    json!({
        "bench": subject,
        "callers": arguments.callers,
        "seconds": load.elapsed.as_secs_f64(),
        "sagas": load.measured_sagas(),
        "sagas_per_second": load.per_second(),
        "p50_ms": milliseconds(load.quantile(0.5)),
        "p99_ms": milliseconds(load.quantile(0.99)),
        "max_ms": milliseconds(load.quantile(1.0)),
        "failures": load.failures,
        "commits_per_saga": server.commits_per_saga,
        "cpu_seconds_client": load.cpu_seconds,
        "cpu_seconds_server": server.cpu_seconds,
        "postgresql": server.version,
        "settings": server.settings.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "profile": PROFILE,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn as_table(subject: &str, arguments: &Arguments, load: &Load, server: &ServerFigures) {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let optional =
        |seconds: Option<f64>| seconds.map_or("not known".to_owned(), |seconds| format!("{seconds:.1} s"));
    let settings: Vec<String> =
        server.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    terminal::table(
        &[&format!("bench {subject}"), ""],
        [
            row("profile", PROFILE.to_owned()),
            row("callers", arguments.callers.to_string()),
            row(
                "measured",
                format!("{:.1} s after {} s to warm up", load.elapsed.as_secs_f64(), arguments.warm_up),
            ),
            row("sagas", load.measured_sagas().to_string()),
            row("sagas a second", format!("{:.0}", load.per_second())),
            row("p50", format!("{:.2} ms", milliseconds(load.quantile(0.5)))),
            row("p99", format!("{:.2} ms", milliseconds(load.quantile(0.99)))),
            row("slowest", format!("{:.2} ms", milliseconds(load.quantile(1.0)))),
            row("failures", load.failures.to_string()),
            row(
                "commits a saga",
                format!("{:.3} (all transactions of the run, readers too)", server.commits_per_saga),
            ),
            row("processor time, this process", optional(load.cpu_seconds)),
            row("processor time, server (with warm-up)", optional(server.cpu_seconds)),
            row("PostgreSQL", server.version.clone()),
            row("durability", settings.join(", ")),
        ],
    );
}

/// A duration in milliseconds.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
