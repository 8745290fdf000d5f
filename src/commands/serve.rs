//! `sagaline serve`: the HTTP API.

use api::Service;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, MailTarget, ProcessContext},
    config::Config,
    database,
    exit_error::ExitError,
    pool::PoolUse,
};

/// Arguments of `serve`.
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
    let services = if arguments.services.is_empty() {
        Service::ALL.to_vec()
    } else {
        without_duplicates(&arguments.services)
    };
    let process = ProcessContext::start(config, "serve", &log_name(&services))?;
    let url = database::required_url(&process.config.database, None)?;
    let bound = app::bind(&process.config.http, &services)?;
    let pool = process.connect(&url, PoolUse::Api).await?;
    app::require_api_key(&process.config, &pool).await?;
    let mailer = process.mailer(&MailTarget::server_or_files(&process.config, &std::env::temp_dir()))?;
    let shop = process.shop(pool, &mailer)?;
    // The port accepts connections only now that requests can be answered.
    let socket = bound.listen()?;
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    let docs = format!("http://{}/docs", socket.address);
    tracing::info!(address = %socket.address, services = names.join(","), docs, database = %url, "serving");

    // Without queues, `work` claims nothing. It only tells workers, through Redis, which sagas became due in this
    // process.
    let due_hints_quit = CancellationToken::new();
    let due_hints = app::work(&process, &shop, &[], due_hints_quit.clone());
    let serving = async {
        let served = app::serve(&process, &shop, &mailer, socket, process.quit.clone()).await;
        due_hints_quit.cancel();
        served
    };
    let (served, due_hints_sent) = tokio::join!(serving, due_hints);

    process.close_shop(&shop).await;
    process.finish().await;
    served?;
    due_hints_sent
}

/// The name of this kind of process in log files and traces: `serve` with all services, else their names.
fn log_name(services: &[Service]) -> String {
    if services.len() == Service::ALL.len() {
        return "serve".into();
    }
    services.iter().map(|service| service.name()).collect::<Vec<_>>().join("-")
}

fn without_duplicates(services: &[Service]) -> Vec<Service> {
    Service::ALL.iter().copied().filter(|service| services.contains(service)).collect()
}
