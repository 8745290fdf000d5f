//! `sagaline serve`: the HTTP API.

use api::Service;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, MailTarget, ThisProcess},
    config::Config,
    database,
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
    shutdown,
    telemetry::Telemetry,
};

/// What `serve` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Offer only this service (may be given several times): orders, inventory or notifications
    #[arg(long = "service", value_name = "SERVICE")]
    services: Vec<Service>,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the database or the port can't be used, or serving ends by itself.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), ExitError> {
    let services =
        if arguments.services.is_empty() { Service::ALL.to_vec() } else { distinct(&arguments.services) };
    let telemetry = Telemetry::install(&config.telemetry, &name(&services))?;
    let quit = shutdown::on_signal()?;
    let url = database::required_url(&config.database, None)?;
    let bound = app::bind(&config.http, &services)?;
    let pool = database::connect(&url, PoolUse::Api, config.database.pool_size, config.database.startup_wait)
        .await?;
    migrate::require(&pool).await?;
    app::require_a_key(&config, &pool).await?;

    let process = ThisProcess::new(&config, "serve");
    let target = MailTarget::server_or_files(&config, &std::env::temp_dir());
    let mailer = target.mailer(&config, &process)?;
    let shop = app::shop(&config, pool.clone(), mailer.clone(), telemetry.trace_link())?;
    // Not before it can serve.
    let socket = bound.listen()?;
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    tracing::info!(address = %socket.address, services = names.join(","), database = %url, "serving");

    let upkeep = tokio::spawn(telemetry.upkeep(quit.clone()));
    // It works on no queue: it tells Redis, if there is one, what became due here.
    let hints_quit = CancellationToken::new();
    let hints = app::work(&config, &process, &shop, &[], hints_quit.clone());
    let serving = async {
        let served = app::serve(&config, &process, &shop, &mailer, &telemetry, socket, quit.clone()).await;
        hints_quit.cancel();
        served
    };
    let (served, hinted) = tokio::join!(serving, hints);

    quit.cancel();
    shop.engine().shutdown().await;
    pool::close(&pool).await;
    let _ = upkeep.await;
    tracing::info!("stopped");
    telemetry.flush().await;
    served?;
    hinted
}

/// What this kind of process is called in log files and traces: by its services, `serve` with all of them.
fn name(services: &[Service]) -> String {
    if services.len() == Service::ALL.len() {
        return "serve".into();
    }
    services.iter().map(|service| service.name()).collect::<Vec<_>>().join("-")
}

/// A service given twice is still one.
fn distinct(services: &[Service]) -> Vec<Service> {
    Service::ALL.into_iter().filter(|service| services.contains(service)).collect()
}
