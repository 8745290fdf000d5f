//! `sagaline openapi`: prints the OpenAPI document, or checks that a file equals it.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::{exit_error::ExitError, terminal};

/// Arguments of `openapi`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Compare this file with the OpenAPI document instead of printing it; exit code 1 when it is stale
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

/// Prints the OpenAPI document or compares the file with it.
///
/// # Errors
/// When the file is stale or can't be read.
pub(crate) fn run(arguments: &Arguments) -> Result<(), ExitError> {
    let document = api::openapi_json();
    let Some(path) = &arguments.check else {
        return Ok(terminal::write(&with_line_end(&document)).context("can't print the document")?);
    };
    let shown = path.display();
    let stored = std::fs::read_to_string(path).with_context(|| format!("can't read {shown}"))?;
    if stored.trim_end() == document.trim_end() {
        terminal::print(format_args!("{shown} is up to date"));
        return Ok(());
    }
    let line = 1 + stored.lines().zip(document.lines()).take_while(|(old, new)| old == new).count();
    Err(ExitError::NegativeResult(format!(
        "{shown} is stale, from line {line} on; write it again with `sagaline openapi > {shown}`"
    )))
}

fn with_line_end(document: &str) -> String {
    format!("{}\n", document.trim_end())
}
