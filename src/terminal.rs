//! What the commands say to the person at the terminal: the only place of the binary that prints.
//!
//! What a command was asked for goes to standard output. Logs and errors go to standard error, so that both can be
//! redirected apart.

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints one line. A reader that has gone away (`sagaline openapi | head`) is no error.
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a text as it is, without a line end.
///
/// # Errors
/// When standard output can't be written to.
pub(crate) fn write(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one line to standard error.
pub(crate) fn eprint(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether a person reads standard output.
pub(crate) fn is_interactive() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints rows under a header.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    let preset = if is_interactive() { presets::UTF8_FULL_CONDENSED } else { presets::ASCII_MARKDOWN };
    table
        .load_style(preset)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    print(table);
}

/// A bar that fills on a terminal; elsewhere a plain line at the beginning and at the end.
pub(crate) struct Progress {
    bar: ProgressBar,
    label: String,
}

impl Progress {
    /// Begins with `label`, to end at `total`.
    pub(crate) fn start(label: impl Into<String>, total: u64) -> Self {
        let label = label.into();
        let target =
            if is_interactive() { ProgressDrawTarget::stdout() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("  {msg:<42} {bar:32} {pos:>4}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(label.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        if !is_interactive() {
            print(format_args!("  {label} …"));
        }
        Self { bar, label }
    }

    /// Says something while it fills.
    pub(crate) fn print(&self, line: impl Display) {
        self.bar.suspend(|| print(line));
    }

    /// Counts one more.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// Sets the count.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Ends with a line that says what came of it.
    pub(crate) fn finish(&self, result: impl Display) {
        self.bar.finish_and_clear();
        print(format_args!("  ✓ {}: {result}", self.label));
    }
}
