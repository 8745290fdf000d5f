//! `sagaline health`: asks a running process whether it is ready, for the health checks of containers, whose images hold
//! no other client.

use std::time::Duration;

use clap::Args;

use crate::{
    config::Config,
    exit_error::ExitError,
    http_client::{self, HttpClient},
    terminal,
};

const PATIENCE: Duration = Duration::from_secs(3);

/// What `health` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to ask instead of `http://127.0.0.1:<PORT>/health/ready`
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// Asks once, and prints the answer.
///
/// # Errors
/// [`ExitError::Negative`] when there is no answer within three seconds, or it is not a 2xx.
pub(crate) async fn run(config: &Config, arguments: Arguments) -> Result<(), ExitError> {
    let url = arguments.url.unwrap_or_else(|| format!("http://127.0.0.1:{}/health/ready", config.http.port));
    let silent = |error: anyhow::Error| ExitError::Negative(format!("{url} does not answer: {error:#}"));
    let answer = HttpClient::new(PATIENCE).get(&url).await.map_err(silent)?;
    let status = answer.status();
    let body = http_client::text(&answer).map_err(silent)?;
    if !status.is_success() {
        return Err(ExitError::Negative(format!("{url} says {status}: {body}")));
    }
    terminal::print(body);
    Ok(())
}
