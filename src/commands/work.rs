//! `sagaline work`: the workers that run sagas.

use clap::Args;
use shop::sagas::QUEUES;

use crate::{
    app::{self, MailTarget, ProcessContext},
    config::Config,
    database,
    exit_error::ExitError,
    pool::PoolUse,
};

/// Arguments of `work`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Work only on this queue (may be given several times): default or notifications
    #[arg(long = "queue", value_name = "QUEUE", value_parser = QUEUES)]
    queues: Vec<String>,
}

/// Works until SIGINT or SIGTERM; then finishes the steps in flight and releases the rest.
///
/// # Errors
/// When the database can't be used, no mail server is configured, or the workers end by themselves.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let process = ProcessContext::start(config, "work", "work")?;
    let url = database::required_url(&process.config.database, None)?;
    let queues = queues(arguments.queues);
    let smtp = process.config.mail.smtp_url.clone().ok_or_else(|| {
        ExitError::Unusable(
            "SMTP_URL is not set: set it to a URL such as smtp://user:password@host:587".into(),
        )
    })?;
    let mailer = process.mailer(&MailTarget::Server(smtp))?;
    let pool = process.connect(&url, PoolUse::Workers).await?;
    let socket = app::listen_for_worker(&process.config.http)?;
    let shop = process.worker_shop(pool, &mailer)?;
    let address = socket.as_ref().map(|socket| socket.address);
    tracing::info!(queues = queues.join(","), address = address.map(tracing::field::display), database = %url, "working");

    let working = async {
        let worked = app::work(&process, &shop, &queues, process.quit.clone()).await;
        process.quit.cancel();
        worked
    };
    let serving = async {
        match socket {
            Some(socket) => app::serve(&process, &shop, &mailer, socket, process.quit.clone()).await,
            None => Ok(()),
        }
    };
    let (worked, served) = tokio::join!(working, serving);

    process.close_shop(&shop).await;
    process.finish().await;
    worked?;
    served
}

/// The queues to work on: those that were given, without duplicates, else all.
fn queues(mut given: Vec<String>) -> Vec<String> {
    if given.is_empty() {
        return QUEUES.map(ToOwned::to_owned).to_vec();
    }
    given.sort();
    given.dedup();
    given
}
