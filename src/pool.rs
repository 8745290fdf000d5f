//! Connection pools, and the limits that every connection sets on the server.

use std::{net::IpAddr, str::FromStr, time::Duration};

use engine::WritableSessions;
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::config::SecretUrl;

/// What a pool is used for, which decides the time-outs for connections, locks and statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum PoolUse {
    /// HTTP requests: when all connections are taken, an immediate 503 is better than a queue of waiting clients.
    Api,
    /// The engine's commits and claims.
    Workers,
    /// A command that a person waits for, such as a migration or `sagaline doctor`.
    Command,
}

impl PoolUse {
    fn name(self) -> &'static str {
        self.into()
    }

    fn acquire_timeout(self) -> Duration {
        match self {
            Self::Api => Duration::from_secs(1),
            Self::Workers => Duration::from_secs(10),
            Self::Command => Duration::from_secs(30),
        }
    }

    /// Short, because a transaction that waits for a lock blocks others. The engine gives the sagas of a batch that has
    /// timed out back, without counting an attempt.
    fn lock_timeout(self) -> &'static str {
        match self {
            Self::Workers => "250ms",
            Self::Api => "1500ms",
            Self::Command => "5s",
        }
    }

    /// Migrations and the queries of `sagaline doctor` may take long.
    fn statement_timeout(self) -> &'static str {
        match self {
            Self::Api => "10s",
            Self::Workers => "30s",
            Self::Command => "10min",
        }
    }
}

/// Parses a URL and adds limits: no statement, lock or idle transaction lasts forever, and the server notices within a
/// minute that a client has disappeared.
///
/// # Errors
/// When the URL is not a PostgreSQL URL; the message does not contain it.
pub(crate) fn connect_options(url: &SecretUrl, pool_use: PoolUse) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.expose())?;
    let options =
        if gains_nothing_from_tls(&options) { options.ssl_mode(PgSslMode::Disable) } else { options };
    let options = match pool_use {
        // Lists accept any combination of filters, and each query is planned for its filters.
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

/// Whether the server is on this machine and the URL does not ask for TLS. The mode `prefer` does not ask for it.
///
/// Measured with sqlx 0.9.0, which leaves Nagle's algorithm on: a message above 16 KiB leaves as several TLS records,
/// and the last one waits 40 ms for a delayed acknowledgement. On loopback that limited 64 callers to 1,100 sagas a second
/// instead of 4,800.
fn gains_nothing_from_tls(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_loopback && matches!(options.get_ssl_mode(), PgSslMode::Prefer)
}

/// A connection that was idle for this long is tested before it is used. Under load none is: a caller whose time to get a
/// connection ends while it tests one loses it, and when many callers wait, opening others takes all the time there is.
const TESTED_AFTER: Duration = Duration::from_secs(1);

/// How long a pool may take to close: a connection whose server has disappeared is never returned.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes a pool at the end of a process. The process ends even if the database does not answer.
pub(crate) async fn close(pool: &PgPool) {
    if tokio::time::timeout(CLOSE_TIMEOUT, pool.close()).await.is_err() {
        tracing::warn!("connections to the database could not be closed in time; they are cut off");
    }
}

/// The server's message alone; sqlx would add the file and line of PostgreSQL's source that raised it.
pub(crate) fn server_message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Creates a pool that connects when it is first used. It replaces sessions that refuse writes as soon as others do not.
pub(crate) fn open(options: PgConnectOptions, pool_use: PoolUse, size: u32) -> PgPool {
    let sessions = WritableSessions::new(options.clone());
    let opened = sessions.clone();
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(pool_use.acquire_timeout())
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // The engine retries when a connection turns out to be dead; a test before each use would cost a round trip.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let sessions = opened.clone();
            Box::pin(async move { sessions.opened(connection).await })
        })
        .before_acquire(move |connection, now| {
            let sessions = sessions.clone();
            Box::pin(async move {
                if pool_use != PoolUse::Workers && now.idle_for >= TESTED_AFTER {
                    connection.ping().await?;
                }
                sessions.may_use(connection, now.age).await
            })
        })
        .connect_lazy_with(options)
}
