//! The log: readable text on a terminal, JSON otherwise; on standard error, and also in files if a directory for them
//! is configured.

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::{
    Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt,
    layer::Filter,
    registry::LookupSpan,
};

use crate::config::{LogFormat, TelemetryConfig};

/// The log's layer, with its filter.
pub(super) fn layer<S>(config: &TelemetryConfig) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = filter(config);
    if is_pretty(config.log_format) {
        let colours = console::colors_enabled_stderr();
        fmt::layer().with_writer(std::io::stderr).with_ansi(colours).compact().with_filter(filter).boxed()
    } else {
        fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_filter(filter)
            .boxed()
    }
}

/// The layer of the log files: JSON, whatever standard error gets.
pub(super) fn file_layer<S>(config: &TelemetryConfig, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer()
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_filter(filter(config))
        .boxed()
}

/// Admits the events that `LOG_LEVEL` selects, and the spans of requests and steps at any level: traces consist of
/// them, and errors take their trace id from them.
pub(super) fn filter<S>(config: &TelemetryConfig) -> impl Filter<S> + Send + Sync + 'static
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // The configuration has validated the filter; `info` is never used.
    let events: Targets =
        config.log_level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO);
    events.or(spans.with_max_level_hint(LevelFilter::INFO))
}

fn is_pretty(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    }
}
