//! `sagaline dev`: everything in one process, without any configuration.

mod key;

use std::{fs, io::ErrorKind, path::Path};

use anyhow::Context;
use api::{Auth, Service};
use clap::Args;
use devkit::postgres::{self, StateDir};
use shop::{Page, Shop, commands, inventory, sagas::QUEUES};
use tokio_util::sync::CancellationToken;

use self::key::{DevKey, dev_key};
use crate::{
    app::{self, Bound, Listening, MailTarget, ProcessContext},
    config::Config,
    database_source::DatabaseSource,
    exit_error::ExitError,
    migrate::{self, DatabaseLocation},
    pool::{self, PoolUse},
    terminal,
};

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Use this database instead of `DATABASE_URL` or the embedded one
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Delete the embedded database and the mails first
    #[arg(long)]
    reset: bool,
    /// Listen on this port instead of `PORT`
    #[arg(long)]
    port: Option<u16>,
}

/// Runs everything until SIGINT or SIGTERM.
///
/// # Errors
/// When the database or the port can't be used, or a part ends by itself.
pub(crate) async fn run(mut config: Config, arguments: Arguments) -> Result<(), ExitError> {
    config.http.port = arguments.port.unwrap_or(config.http.port);
    config.access = config.access.uncounted();
    let process = ProcessContext::start(config, "dev", "dev")?;
    let bound = app::bind(&process.config.http, Service::ALL)?;

    let state_dir = process.config.embedded.state_dir()?;
    let mails = state_dir.path().join("mails");
    if arguments.reset {
        reset(&process.config, &arguments, &state_dir, &mails).await?;
    }
    let source = DatabaseSource::choose(&process.config, arguments.database_url.as_deref()).await?;
    let ran = run_all(&process, &source, &state_dir, bound).await;
    process.quit.cancel();
    let stopped = source.stop().await;
    process.finish().await;
    ran?;
    Ok(stopped?)
}

async fn run_all(
    process: &ProcessContext,
    source: &DatabaseSource,
    state_dir: &StateDir,
    bound: Bound,
) -> Result<(), ExitError> {
    let config = &process.config;
    let location = match source {
        DatabaseSource::Embedded(_) => DatabaseLocation::StateDir(state_dir.path().to_owned()),
        DatabaseSource::Given(_) => DatabaseLocation::Url,
    };
    // The embedded server is ours, so its processes get a role of their own, at each start, as a migration may have made
    // new tables.
    migrate::provision_url(&source.url(), &location, &config.retention, source.process_role()).await?;

    let url = source.process_url();
    let target = MailTarget::server_or_files(config, &state_dir.path().join("mails"));
    let mailer = process.mailer(&target)?;
    let options =
        pool::connect_options(&url, PoolUse::Workers).context("the database's URL can't be used")?;
    let pool = pool::open(options, PoolUse::Workers, config.database.pool_size);
    let shop = process.shop(pool.clone(), &mailer)?;
    commands::seed_if_empty(&shop).await.context("the catalog can't be filled")?;
    let key = match config.access.auth {
        Auth::Keys => Some(dev_key(&pool, state_dir.path()).await.context("the API key can't be made")?),
        Auth::Off => None,
    };
    let socket = bound.listen()?;
    greet(&shop, &socket, source, &target, key.as_ref()).await?;

    let queues = QUEUES.map(ToOwned::to_owned);
    // When either ends by itself, the other one stops, too. Workers continue while open requests wait for a saga.
    let work_quit = CancellationToken::new();
    let serving = async {
        let served = app::serve(process, &shop, &mailer, socket, process.quit.clone()).await;
        work_quit.cancel();
        served
    };
    let working = async {
        let worked = app::work(process, &shop, &queues, work_quit.clone()).await;
        process.quit.cancel();
        worked
    };
    let (served, worked) = tokio::join!(serving, working);

    process.close_shop(&shop).await;
    served?;
    worked?;
    terminal::print("Stopped. Sagas in progress continue at the next start.");
    Ok(())
}

/// Deletes the embedded database and the mails, and nothing else.
async fn reset(
    config: &Config,
    arguments: &Arguments,
    state_dir: &StateDir,
    mails: &Path,
) -> Result<(), ExitError> {
    if arguments.database_url.is_some() || config.database.url.is_some() {
        return Err(ExitError::Unusable(
            "--reset deletes the embedded database only; drop yours yourself, or unset DATABASE_URL".into(),
        ));
    }
    postgres::reset(state_dir).await?;
    match fs::remove_dir_all(mails) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ExitError::Other(
            anyhow::Error::from(error).context(format!("can't remove {}", mails.display())),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints the addresses, the key and the first steps.
async fn greet(
    shop: &Shop,
    socket: &Listening,
    source: &DatabaseSource,
    target: &MailTarget,
    key: Option<&DevKey>,
) -> anyhow::Result<()> {
    let base = format!("http://{}", socket.address);
    let page = Page { after: None, limit: 100 };
    let products = inventory::products(shop.pool(), &inventory::ProductFilter::default(), page).await?.items;
    let sku = products.last().map_or("TEA-1", |product| product.sku.as_str());
    terminal::print(format_args!("Sagaline {} is ready.\n", env!("CARGO_PKG_VERSION")));
    terminal::print(format_args!("  API       {base}/api/orders, /api/products, /api/workflows, …"));
    terminal::print(format_args!("  Docs      {base}/docs"));
    terminal::print(format_args!("  Metrics   {base}/metrics"));
    terminal::print(format_args!("  Mails     {}", mails(target)));
    terminal::print(format_args!("  Database  {}", database(source)));
    if let Some(key) = key {
        terminal::print(format_args!("  Key       {}, kept in {}", key.token.expose(), key.file.display()));
    }
    let authorization =
        key.map(|key| format!(" -H 'authorization: Bearer {}'", key.token.expose())).unwrap_or_default();
    terminal::print("\nPlace an order:\n");
    terminal::print(format_args!(
        "  curl -s {base}/api/orders{authorization} -H 'content-type: application/json' -H 'prefer: wait=5' -d '{{\"customer_id\":\
         \"0198c0de-0000-7000-8000-000000000001\",\"customer_email\":\"ann@example.com\",\"items\":[{{\"sku\":\"{sku}\",\
         \"quantity\":2}}]}}'"
    ));
    if matches!(source, DatabaseSource::Embedded(_)) {
        terminal::print("\nStart over with an empty database: sagaline dev --reset");
    }
    terminal::print("Stop with Ctrl-C.\n");
    Ok(())
}

fn mails(target: &MailTarget) -> String {
    match target {
        MailTarget::Server(url) => format!("go to {url}"),
        MailTarget::Files(dir) => format!("{}, one .eml file each", dir.display()),
    }
}

fn database(source: &DatabaseSource) -> String {
    match source {
        DatabaseSource::Given(url) => url.to_string(),
        DatabaseSource::Embedded(cluster) => {
            format!("a private PostgreSQL (process {}): psql '{}'", cluster.pid(), source.url().expose())
        }
    }
}
