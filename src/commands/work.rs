//! `sagaline work`: keeps sagas moving.

use clap::Args;

use crate::{
    app::{self, MailTarget, QUEUES, ThisProcess},
    config::Config,
    database,
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
    shutdown,
    telemetry::Telemetry,
};

/// What `work` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Work only on this queue (may be given several times): default or notifications
    #[arg(long = "queue", value_name = "QUEUE", value_parser = QUEUES)]
    queues: Vec<String>,
}

/// Works until SIGINT or SIGTERM; then finishes what is in flight and releases the rest.
///
/// # Errors
/// When the database can't be used, no mail server is named, or the workers die.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let telemetry = Telemetry::install(&config.telemetry, "work")?;
    let quit = shutdown::on_signal()?;
    let url = database::required_url(&config.database, None)?;
    let queues = queues(arguments.queues);
    let smtp = config.mail.smtp_url.clone().ok_or_else(|| {
        ExitError::Unusable(
            "SMTP_URL is not set: set it to a URL such as smtp://user:password@host:587".into(),
        )
    })?;
    let process = ThisProcess::new(&config, "work");
    let mailer = MailTarget::Server(smtp).mailer(&config, &process)?;
    let pool =
        database::connect(&url, PoolUse::Workers, config.database.pool_size, config.database.startup_wait)
            .await?;
    migrate::require(&pool).await?;

    let socket = app::listen_for_worker(&config.http)?;
    let shop = app::shop_with_fail_point(&config, pool.clone(), mailer.clone(), telemetry.trace_link())?;
    let address = socket.as_ref().map(|socket| socket.address);
    tracing::info!(queues = queues.join(","), address = address.map(tracing::field::display), database = %url, "working");
    let upkeep = tokio::spawn(telemetry.upkeep(quit.clone()));
    let working = async {
        let worked = app::work(&config, &process, &shop, &queues, quit.clone()).await;
        quit.cancel();
        worked
    };
    let observing = async {
        match socket {
            Some(socket) => {
                app::serve(&config, &process, &shop, &mailer, &telemetry, socket, quit.clone()).await
            }
            None => Ok(()),
        }
    };
    let (worked, observed) = tokio::join!(working, observing);

    shop.engine().shutdown().await;
    pool::close(&pool).await;
    let _ = upkeep.await;
    tracing::info!("stopped");
    telemetry.flush().await;
    worked?;
    observed
}

fn queues(mut asked: Vec<String>) -> Vec<String> {
    if asked.is_empty() {
        return QUEUES.map(ToOwned::to_owned).to_vec();
    }
    asked.sort();
    asked.dedup();
    asked
}
