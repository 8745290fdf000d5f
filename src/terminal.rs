//! Prints to the terminal. No other part of the binary prints.
//!
//! The result of a command goes to standard output. Logs and errors go to standard error, so that the two can be redirected
//! separately. Colours are used on a terminal only, and not if `NO_COLOR` is set.

mod table;

use std::{
    fmt::Display,
    io::{IsTerminal, Write},
    time::Duration,
};

use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints one line. A reader that has closed the pipe is not an error (`sagaline openapi | head`).
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a text without adding a line end.
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

/// Whether standard output is a terminal.
pub(crate) fn is_interactive() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints an error to standard error, with the program's name before it.
pub(crate) fn eprint_error(message: impl Display) {
    eprint(format_args!("{} {message}", style("sagaline:").for_stderr().red().bold()));
}

/// Prints a good result.
pub(crate) fn print_success(line: impl Display) {
    print(style(line).green());
}

/// Prints rows under a header, within the terminal's width; without a terminal, each row is one line.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let width = console::Term::stdout().size_checked().map(|(_, columns)| columns);
    print(table::arrange(header, rows.into_iter().collect(), is_interactive(), width));
}

/// A progress bar on a terminal; elsewhere one line at the start and one at the end.
pub(crate) struct Progress {
    bar: ProgressBar,
    label: String,
}

impl Progress {
    /// Starts a bar with a label that is full at `total`.
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

    /// Prints a line above the bar.
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

    /// Removes the bar and prints a line with the result.
    pub(crate) fn finish(&self, result: impl Display) {
        self.bar.finish_and_clear();
        print(format_args!("  ✓ {}: {result}", self.label));
    }
}
