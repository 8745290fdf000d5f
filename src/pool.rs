//! Connection pools, and the limits that every connection asks the server for.

use std::{net::IpAddr, str::FromStr, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::config::SecretUrl;

/// Who uses a pool, which decides how long one may wait for a connection and for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolUse {
    /// HTTP requests: when all connections are taken, a 503 at once is better than a queue of waiting clients.
    Api,
    /// The engine's commits and claims.
    Workers,
    /// A command that a person waits for, such as a migration or the doctor.
    Command,
}

impl PoolUse {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Workers => "workers",
            Self::Command => "command",
        }
    }

    fn acquire_timeout(self) -> Duration {
        match self {
            Self::Api => Duration::from_secs(1),
            Self::Workers => Duration::from_secs(10),
            Self::Command => Duration::from_secs(30),
        }
    }

    /// Whoever waits for a lock holds others. A set is tried again when it has waited in vain, at no cost to its sagas.
    fn lock_timeout(self) -> &'static str {
        match self {
            Self::Api | Self::Workers => "1500ms",
            Self::Command => "5s",
        }
    }

    /// Migrations and the doctor's queries may rightly take long.
    fn statement_timeout(self) -> &'static str {
        match self {
            Self::Api => "10s",
            Self::Workers => "30s",
            Self::Command => "10min",
        }
    }
}

/// Parses a URL and adds our limits: no statement, lock or idle transaction lasts for ever, and the server notices a
/// client that is gone within a minute.
///
/// # Errors
/// When the URL is none that PostgreSQL's clients know; the message does not hold it.
pub(crate) fn connect_options(url: &SecretUrl, pool_use: PoolUse) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.expose())?;
    let options =
        if gains_nothing_from_tls(&options) { options.ssl_mode(PgSslMode::Disable) } else { options };
    let options = match pool_use {
        // Lists take any combination of filters: each is planned for the ones that it was given.
        PoolUse::Api => {
            engine::with_engine_options(options).options([("plan_cache_mode", "force_custom_plan")])
        }
        PoolUse::Workers => engine::with_engine_options(options),
        PoolUse::Command => options,
    };
    Ok(options.application_name(&format!("sagaline-{}", pool_use.name())).options([
        ("statement_timeout", pool_use.statement_timeout()),
        ("lock_timeout", pool_use.lock_timeout()),
        ("idle_in_transaction_session_timeout", "30s"),
        ("tcp_keepalives_idle", "20"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
    ]))
}

/// Whether the server is on this machine and nobody asked for TLS: the mode `prefer` asks for none.
///
/// Measured with sqlx 0.9.0, which leaves Nagle's algorithm on: a message above 16 KiB leaves as several TLS records,
/// and the last one waits 40 ms for a delayed acknowledgement. On loopback that held 64 callers to 1,100 sagas a second
/// instead of 4,800.
fn gains_nothing_from_tls(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback && matches!(options.get_ssl_mode(), PgSslMode::Prefer)
}

/// How long a pool may take to close: a connection that has silently died is never given back.
const CLOSING: Duration = Duration::from_secs(5);

/// Closes a pool at the end of a process, which ends even if the database is silent.
pub(crate) async fn close(pool: &PgPool) {
    if tokio::time::timeout(CLOSING, pool.close()).await.is_err() {
        tracing::warn!("connections to the database could not be closed in time; they are cut off");
    }
}

/// Makes a pool that connects when it is first used.
pub(crate) fn open(options: PgConnectOptions, pool_use: PoolUse, size: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(pool_use.acquire_timeout())
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // The engine tries again by itself when a connection turns out to be dead; asking first costs a round trip.
        .test_before_acquire(pool_use != PoolUse::Workers)
        .connect_lazy_with(options)
}
