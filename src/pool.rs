//! Connection pools, and the limits that every connection sets on the server.

use std::{net::IpAddr, str::FromStr, time::Duration};

use engine::WritableSessions;
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::{config::SecretUrl, sessions::SessionSettings};

/// What a pool is used for, which decides the time-outs for connections, locks and statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolUse {
    /// HTTP requests: when all connections are taken, an immediate 503 is better than a queue of waiting clients.
    Api,
    /// The engine's commits and claims.
    Workers,
    /// A command that a person waits for, such as a migration or `sagaline doctor`.
    Command,
}

impl PoolUse {
    fn application_name(self) -> &'static str {
        match self {
            Self::Api => "sagaline-api",
            Self::Workers => "sagaline-workers",
            Self::Command => "sagaline-command",
        }
    }

    /// The settings of each session, as PostgreSQL shows them: no statement, lock or idle transaction lasts for ever, and
    /// plans are made as the statements need them.
    fn session_settings(self) -> Vec<(&'static str, &'static str)> {
        let mut settings = vec![
            ("statement_timeout", self.statement_timeout()),
            ("lock_timeout", self.lock_timeout()),
            ("idle_in_transaction_session_timeout", "30s"),
            // PgBouncer forgets it with `discard all`.
            ("application_name", self.application_name()),
        ];
        match self {
            Self::Api => {
                settings.extend(engine::ENGINE_SETTINGS);
                // Lists accept any combination of filters, and each query is planned for its filters.
                settings.push(("plan_cache_mode", "force_custom_plan"));
            }
            Self::Workers => settings.extend(engine::ENGINE_SETTINGS),
            Self::Command => {}
        }
        settings
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
    let options = options.application_name(pool_use.application_name());
    Ok(options.options(pool_use.session_settings()).options([
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

/// Creates a pool that connects when it is first used. It gives sessions the settings that a pooler has dropped, and replaces
/// those that refuse writes as soon as others do not.
pub(crate) fn open(options: PgConnectOptions, pool_use: PoolUse, size: u32) -> PgPool {
    let sessions = WritableSessions::new(options.clone());
    let opened = sessions.clone();
    let settings = SessionSettings::new(&pool_use.session_settings());
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(pool_use.acquire_timeout())
        .idle_timeout(Duration::from_mins(10))
        .max_lifetime(Duration::from_mins(30))
        // The engine retries when a connection turns out to be dead; a test before each use would cost a round trip.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (sessions, settings) = (opened.clone(), settings.clone());
            Box::pin(async move {
                settings.apply(connection).await?;
                sessions.opened(connection).await
            })
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

#[cfg(test)]
mod tests {
    use devkit::pgbouncer::PgBouncer;
    use sqlx::PgConnection;

    use super::*;
    use crate::{sessions::are_kept, test_cluster};

    const DROPS: (&str, &str) = ("ignore_startup_parameters", "extra_float_digits,options");

    async fn kept(url: &str) -> bool {
        let mut first = PgConnection::connect(url).await.unwrap();
        let mut second = PgConnection::connect(url).await.unwrap();
        are_kept(&mut first, &mut second).await.unwrap()
    }

    /// A caller that makes one transaction after the other.
    async fn transact(url: String) {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        while sqlx::raw_sql("select pg_sleep(0.001)").execute(&mut connection).await.is_ok() {}
    }

    fn pool_of_workers(url: &str) -> PgPool {
        let options = connect_options(&SecretUrl::new(url), PoolUse::Workers).unwrap();
        open(options, PoolUse::Workers, 1)
    }

    async fn show(pool: &PgPool, setting: &str) -> String {
        sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(pool).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_pooler_that_shares_sessions_is_found_out_idle_or_busy() {
        let (_dir, cluster) = test_cluster::start().await;
        for _ in 0..20 {
            assert!(kept(&cluster.url("postgres")).await, "PostgreSQL itself gives each its own");
        }
        let sessions = PgBouncer::start(&cluster, &[("pool_mode", "session"), DROPS]).await.unwrap();
        for _ in 0..20 {
            assert!(kept(&sessions.url("postgres")).await, "this pooler gives each its own");
        }
        for size in ["1", "8", "30"] {
            let settings = [("pool_mode", "transaction"), ("default_pool_size", size), DROPS];
            let shared = PgBouncer::start(&cluster, &settings).await.unwrap();
            let url = shared.url("postgres");
            assert!(!kept(&url).await, "an idle pooler of {size}");
            let others: Vec<_> = (0..16).map(|_| tokio::spawn(transact(url.clone()))).collect();
            for round in 0..20 {
                assert!(!kept(&url).await, "a busy pooler of {size}, round {round}");
            }
            for other in others {
                other.abort();
            }
        }
        cluster.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_a_pooler_drops_or_leaves_is_mended_in_each_session() {
        let (_dir, cluster) = test_cluster::start().await;
        let settings =
            [("pool_mode", "session"), ("server_reset_query", ""), ("default_pool_size", "1"), DROPS];
        let pooler = PgBouncer::start(&cluster, &settings).await.unwrap();
        for url in [cluster.url("postgres"), pooler.url("postgres"), pooler.url("postgres")] {
            let pool = pool_of_workers(&url);
            assert_eq!(show(&pool, "lock_timeout").await, "250ms", "{url}");
            assert_eq!(show(&pool, "statement_timeout").await, "30s", "{url}");
            assert_eq!(show(&pool, "enable_seqscan").await, "off", "{url}");
            assert_eq!(show(&pool, "application_name").await, "sagaline-workers", "{url}");
            pool.close().await;
        }
        // The one session of this pooler has been set before; another kind of process gets it now.
        let options = connect_options(&SecretUrl::new(pooler.url("postgres")), PoolUse::Api).unwrap();
        let pool = open(options, PoolUse::Api, 1);
        assert_eq!(show(&pool, "lock_timeout").await, "1500ms");
        let held: i64 =
            sqlx::query_scalar("select count(*) from pg_prepared_statements where name = 'sqlx_s_1'")
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!(held, 1, "its own, and none that was left");
        pool.close().await;
        cluster.stop().await.unwrap();
    }
}
