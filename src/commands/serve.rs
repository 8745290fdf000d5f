//! `sagaline serve`: the HTTP API.

use api::Role;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Letterbox, ThisProcess},
    config::Config,
    database,
    failure::Failure,
    migrate,
    pool::{self, PoolUse},
    shutdown,
    telemetry::Telemetry,
};

/// What `serve` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Offer only this service (may be given several times): orders, inventory or notifications
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the database or the port can't be used, or serving ends by itself.
pub(crate) async fn run(config: Config, arguments: Arguments) -> Result<(), Failure> {
    let roles = if arguments.roles.is_empty() { Role::ALL.to_vec() } else { distinct(&arguments.roles) };
    let telemetry = Telemetry::install(&config.telemetry, &name(&roles))?;
    let quit = shutdown::on_signal()?;
    let url = database::required_url(&config.database, None)?;
    let bound = app::bind(&config.http, &roles)?;
    let pool = database::connect(&url, PoolUse::Api, config.database.pool_size, config.database.startup_wait)
        .await?;
    migrate::require(&pool).await?;
    app::require_a_key(&config, &pool).await?;

    let process = ThisProcess::new(&config, "serve");
    let letterbox = Letterbox::server_or_files(&config, &std::env::temp_dir());
    let mailer = letterbox.mailer(&config, &process)?;
    let shop = app::shop(&config, pool.clone(), mailer.clone(), telemetry.trace_link())?;
    // Not before it can serve.
    let socket = bound.listen()?;
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    tracing::info!(address = %socket.address, roles = names.join(","), database = %url, "serving");

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

/// What this kind of process is called in log files and traces: by its roles, `serve` with all of them.
fn name(roles: &[Role]) -> String {
    if roles.len() == Role::ALL.len() {
        return "serve".into();
    }
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join("-")
}

/// A role given twice is still one.
fn distinct(roles: &[Role]) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| roles.contains(role)).collect()
}
