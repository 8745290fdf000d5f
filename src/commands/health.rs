//! `sagaline health`: asks a running process whether it is ready, for the health checks of containers, whose images
//! have no other HTTP client.

use std::time::Duration;

use clap::Args;

use crate::{
    config::Config,
    exit_error::ExitError,
    http_client::{self, HttpClient},
    terminal,
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of `health`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The URL to request instead of `http://127.0.0.1:<PORT>/health/ready`
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// Sends one request and prints the answer.
///
/// # Errors
/// [`ExitError::NegativeResult`] when there is no answer within three seconds, or it is not a 2xx.
pub(crate) async fn run(config: &Config, arguments: Arguments) -> Result<(), ExitError> {
    let url = arguments.url.unwrap_or_else(|| format!("http://127.0.0.1:{}/health/ready", config.http.port));
    let no_answer =
        |error: anyhow::Error| ExitError::NegativeResult(format!("{url} does not answer: {error:#}"));
    let answer = HttpClient::new(ANSWER_TIMEOUT).get(&url).await.map_err(no_answer)?;
    let status = answer.status();
    let body = http_client::text(&answer).map_err(no_answer)?;
    if !status.is_success() {
        return Err(ExitError::NegativeResult(format!("{url} answered {status}: {body}")));
    }
    terminal::print(body);
    Ok(())
}
