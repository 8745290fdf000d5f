//! How the engine joins its spans to traces without knowing any tracing system.

/// Reads and sets the trace of spans; implemented by whoever exports them.
pub trait TraceLink: Send + Sync + 'static {
    /// The current span's W3C `traceparent`, if it is part of a recorded trace.
    fn current(&self) -> Option<String>;

    /// Makes `span` a child of what `traceparent` names.
    fn adopt(&self, span: &tracing::Span, traceparent: &str);
}
