//! What one process runs with: configuration, telemetry, circuit breakers and the signal to stop.

use breakers::Breakers;
use shop::{Shop, mail::Mailer};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{engine::build_shop, mail::MailTarget};
use crate::{
    config::{Config, SecretUrl},
    database,
    exit_error::ExitError,
    migrate,
    pool::{self, PoolUse},
    shutdown,
    telemetry::Telemetry,
};

/// What one process runs with; end it with [`ProcessContext::close_shop`] and [`ProcessContext::finish`].
pub(crate) struct ProcessContext {
    /// The configuration of the process.
    pub(crate) config: Config,
    /// The logs, traces and metrics of the process.
    pub(crate) telemetry: Telemetry,
    /// The circuit breakers of the process, one for each dependency.
    pub(crate) breakers: Breakers,
    /// Cancelled when the process has to stop, for example by SIGINT or SIGTERM.
    pub(crate) quit: CancellationToken,
    /// The command's name, under which the breakers are reported.
    pub(crate) name: &'static str,
    upkeep: Option<JoinHandle<()>>,
}

impl ProcessContext {
    /// Installs telemetry under `log_name`, and builds the circuit breakers. Does not handle signals.
    ///
    /// # Errors
    /// As [`Telemetry::install`].
    pub(crate) fn new(config: Config, name: &'static str, log_name: &str) -> Result<Self, ExitError> {
        let telemetry = Telemetry::install(&config.telemetry, log_name)?;
        let breakers = config.breakers.make();
        Ok(Self { config, telemetry, breakers, quit: CancellationToken::new(), name, upkeep: None })
    }

    /// As [`ProcessContext::new`], and also handles signals and runs the upkeep of telemetry until the process stops.
    ///
    /// # Errors
    /// As [`ProcessContext::new`], and when the signal handlers can't be installed.
    pub(crate) fn start(config: Config, name: &'static str, log_name: &str) -> Result<Self, ExitError> {
        let process = Self::new(config, name, log_name)?;
        let quit = shutdown::on_signal()?;
        let upkeep = Some(tokio::spawn(process.telemetry.upkeep(quit.clone())));
        Ok(Self { quit, upkeep, ..process })
    }

    /// Connects to a database that runs elsewhere, and requires that it is migrated.
    ///
    /// # Errors
    /// As [`database::connect`] and [`migrate::require`].
    pub(crate) async fn connect(&self, url: &SecretUrl, pool_use: PoolUse) -> Result<PgPool, ExitError> {
        let config = &self.config.database;
        let pool = database::connect(url, pool_use, config.pool_size, config.startup_wait).await?;
        migrate::require(&pool).await?;
        Ok(pool)
    }

    /// Builds the mailer.
    ///
    /// # Errors
    /// As [`MailTarget::mailer`].
    pub(crate) fn mailer(&self, target: &MailTarget) -> Result<Mailer, ExitError> {
        target.mailer(&self.config, &self.breakers)
    }

    /// Builds the shop with its engine.
    ///
    /// # Errors
    /// As [`build_shop`].
    pub(crate) fn shop(&self, pool: PgPool, mailer: &Mailer) -> Result<Shop, ExitError> {
        let shop = build_shop(&self.config, pool, mailer, self.telemetry.trace_propagator())?;
        Ok(self.announced(shop))
    }

    /// As [`ProcessContext::shop`], for a `work` process: with the cargo feature `testing` it may have a fail point.
    ///
    /// # Errors
    /// As [`build_shop`], and when a fail point is set that no saga can reach.
    #[cfg(feature = "testing")]
    pub(crate) fn worker_shop(&self, pool: PgPool, mailer: &Mailer) -> Result<Shop, ExitError> {
        let propagator = self.telemetry.trace_propagator();
        let shop = super::fail_point::build_shop_with_fail_point(&self.config, pool, mailer, propagator)?;
        Ok(self.announced(shop))
    }

    /// As [`ProcessContext::shop`], for a `work` process.
    ///
    /// # Errors
    /// As [`build_shop`].
    #[cfg(not(feature = "testing"))]
    pub(crate) fn worker_shop(&self, pool: PgPool, mailer: &Mailer) -> Result<Shop, ExitError> {
        self.shop(pool, mailer)
    }

    /// Lists the process among the live ones.
    fn announced(&self, shop: Shop) -> Shop {
        shop.engine().announce(self.name, env!("CARGO_PKG_VERSION"));
        shop
    }

    /// Stops the engine and closes its pool.
    pub(crate) async fn close_shop(&self, shop: &Shop) {
        self.quit.cancel();
        shop.engine().shutdown().await;
        pool::close(shop.pool()).await;
    }

    /// Sends and writes the last logs and traces.
    pub(crate) async fn finish(self) {
        self.quit.cancel();
        if let Some(upkeep) = self.upkeep {
            // It fails only when the task panicked, which is in the log.
            let _ = upkeep.await;
        }
        tracing::info!("stopped");
        self.telemetry.flush().await;
    }
}
