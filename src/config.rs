//! Configuration: environment variables, read once and parsed into typed structs.
//!
//! Every variable stands in [`SETTINGS`] with its default; `.env.example` holds the same list and a test keeps the two
//! equal. An empty variable counts as unset. A wrong value is reported with the variable's name and what is expected,
//! and the value of a secret is never shown.

mod access;
mod dead_jobs;
mod duration;
mod reader;
mod redact;
mod retries;
mod secret;
mod settings;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use breakers::{BreakerSettings, Breakers, Dependency};
use devkit::postgres::{EmbeddedError, Search, StateDir};
use shop::{AdminEmails, mail::SmtpSettings};

pub(crate) use access::AccessConfig;
pub(crate) use dead_jobs::DeadJobTtls;
pub(crate) use duration::parse as parse_duration;
pub(crate) use reader::ConfigError;
pub(crate) use retries::Retries;
pub(crate) use secret::SecretUrl;
pub(crate) use settings::SETTINGS;

use reader::Reader;

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where PostgreSQL is, and how it is used.
    pub(crate) database: DatabaseConfig,
    /// Where Redis is, if it carries queues.
    pub(crate) redis_url: Option<SecretUrl>,
    /// Where events are published, and how long they are kept.
    pub(crate) events: EventsConfig,
    /// How mails leave.
    pub(crate) mail: MailConfig,
    /// Where the API listens.
    pub(crate) http: HttpConfig,
    /// Who may call the API, and how often.
    pub(crate) access: AccessConfig,
    /// How sagas are moved.
    pub(crate) workers: WorkersConfig,
    /// When the circuit breakers open, for how long, and what closes them.
    pub(crate) breakers: BTreeMap<Dependency, BreakerSettings>,
    /// `RETRY_<STEP>_…`: how steps are tried, as far as it is set.
    pub(crate) retries: Retries,
    /// `DEAD_JOB_TTL…`: how long dead jobs wait for a person.
    pub(crate) dead_job_ttls: DeadJobTtls,
    /// What is logged and traced.
    pub(crate) telemetry: TelemetryConfig,
    /// Where the embedded PostgreSQL lives and comes from.
    pub(crate) embedded: EmbeddedConfig,
}

/// Where PostgreSQL is, and how it is used.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseConfig {
    /// `DATABASE_URL`; `dev`, `demo` and `bench` start a private server when it is unset.
    pub(crate) url: Option<SecretUrl>,
    /// Connections of each pool: the API has one, the workers have one.
    pub(crate) pool_size: u32,
    /// How long `serve` and `work` wait at their start for a database that does not answer yet.
    pub(crate) startup_wait: Duration,
}

/// Where events are published besides the Redis stream, and how long they are kept.
#[derive(Clone, Debug)]
pub(crate) struct EventsConfig {
    /// `AMQP_URL`: the broker, if there is one.
    pub(crate) amqp_url: Option<SecretUrl>,
    /// How long events are kept at the least.
    pub(crate) retention: Duration,
    /// About so many events stay in the Redis stream.
    pub(crate) stream_longest: u32,
    /// Open streams of one serving process.
    pub(crate) streams: usize,
}

/// How mails leave.
#[derive(Clone, Debug)]
pub(crate) struct MailConfig {
    /// Where the mail server is; without one, `dev` writes mails to files.
    pub(crate) smtp_url: Option<SecretUrl>,
    /// The sender of every mail.
    pub(crate) from: String,
    /// How connections to the mail server are made and kept.
    pub(crate) smtp: SmtpSettings,
    /// Who is told when a product runs low.
    pub(crate) admin_emails: AdminEmails,
}

/// Where the API listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpConfig {
    /// The address to listen on.
    pub(crate) host: IpAddr,
    /// The port when several services share a process.
    pub(crate) port: u16,
    /// The port of the orders service alone.
    pub(crate) orders_port: u16,
    /// The port of the inventory service alone.
    pub(crate) inventory_port: u16,
    /// The port of the notifications service alone.
    pub(crate) notifications_port: u16,
    /// The port of a worker's health and metrics; unset, it offers none.
    pub(crate) work_port: Option<u16>,
    /// How long a process that was told to stop goes on serving, not ready any more, so that no new requests are on
    /// their way when it stops.
    pub(crate) drain_delay: Duration,
}

/// How sagas are moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkersConfig {
    /// How long a process may be silent before others take over its sagas.
    pub(crate) lease: Duration,
    /// How long a placement may take before its stock is given back.
    pub(crate) reservation_ttl: Duration,
    /// Steps of the queue `default` in flight in one process.
    pub(crate) default_concurrency: usize,
    /// Steps of the queue `notifications` in flight in one process.
    pub(crate) notifications_concurrency: usize,
    /// How long steps in flight may take to finish once a stop is asked for.
    pub(crate) shutdown_deadline: Duration,
}

/// What is logged and traced.
#[derive(Clone, Debug)]
pub(crate) struct TelemetryConfig {
    /// A filter in the notation of `tracing-subscriber`, such as `info` or `info,engine=debug`.
    pub(crate) log_level: String,
    /// The shape of the log.
    pub(crate) log_format: LogFormat,
    /// Where log files go, if there are any.
    pub(crate) log_files: Option<LogFiles>,
    /// Where traces go over OTLP and HTTP, if anywhere.
    pub(crate) otlp_endpoint: Option<SecretUrl>,
}

/// Log files, beside standard error.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles {
    /// `LOG_DIR`: their directory, made when it is not there.
    pub(crate) dir: PathBuf,
    /// `LOG_KEEP_DAYS`: how many daily files of each kind of process are kept.
    pub(crate) keep_days: usize,
}

/// The shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Where the embedded PostgreSQL lives and comes from.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddedConfig {
    /// `SAGALINE_STATE_DIR`: holds the cluster, the mails and the logs of child processes.
    state_dir: Option<PathBuf>,
    /// `SAGALINE_PG_BIN`: the directory with `postgres` and `initdb`.
    pg_bin: Option<PathBuf>,
}

impl EmbeddedConfig {
    /// The state directory: the configured one, else the usual place.
    ///
    /// # Errors
    /// When there is no usual place.
    pub(crate) fn state_dir(&self) -> Result<StateDir, EmbeddedError> {
        self.state_dir.clone().map_or_else(StateDir::from_env, |dir| Ok(StateDir::at(dir)))
    }

    /// Where the server's binaries are looked for.
    pub(crate) fn search(&self) -> Search {
        self.pg_bin.clone().map_or_else(Search::from_env, |dir| Search::in_dirs([dir]))
    }
}

impl Config {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// When any variable has a value that can't be used; all such are listed.
    pub(crate) fn from_env() -> Result<Self, ConfigError> {
        let names: Vec<_> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        Self::parse(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()), &names)
    }

    /// Parses the values that `lookup` gives; `names` are those of all variables that are set.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub(crate) fn parse(
        lookup: impl Fn(&str) -> Option<String>,
        names: &[String],
    ) -> Result<Self, ConfigError> {
        let mut read = Reader::new(&lookup, names);
        let config = Self {
            database: database(&mut read),
            redis_url: read.optional_url("REDIS_URL", &["redis", "rediss"]),
            events: events(&mut read),
            mail: mail(&mut read),
            http: http(&mut read),
            access: AccessConfig::read(&mut read),
            workers: workers(&mut read),
            breakers: breakers(&mut read),
            retries: Retries::read(&mut read),
            dead_job_ttls: DeadJobTtls::read(&mut read),
            telemetry: telemetry(&mut read),
            embedded: EmbeddedConfig {
                state_dir: read.optional("SAGALINE_STATE_DIR").map(PathBuf::from),
                pg_bin: read.optional("SAGALINE_PG_BIN").map(PathBuf::from),
            },
        };
        read.finish()?;
        Ok(config)
    }

    /// Makes the circuit breakers of this process; once.
    pub(crate) fn make_breakers(&self) -> Breakers {
        Breakers::new(|dependency| self.breakers.get(&dependency).copied().unwrap_or_default())
    }
}

fn database(read: &mut Reader<'_>) -> DatabaseConfig {
    DatabaseConfig {
        url: read.optional_url("DATABASE_URL", &["postgres", "postgresql"]),
        pool_size: read.number("DATABASE_POOL_SIZE", 1..=1000),
        startup_wait: read.duration("DATABASE_WAIT", Duration::ZERO..=Duration::from_hours(1)),
    }
}

fn events(read: &mut Reader<'_>) -> EventsConfig {
    EventsConfig {
        amqp_url: read.optional_url("AMQP_URL", &["amqp", "amqps"]),
        retention: read
            .duration("EVENTS_RETENTION", Duration::from_secs(1)..=Duration::from_hours(24 * 3650)),
        stream_longest: read.number("EVENTS_MAXLEN", 1..=100_000_000),
        streams: read.number("EVENTS_STREAMS", 1..=100_000),
    }
}

fn mail(read: &mut Reader<'_>) -> MailConfig {
    MailConfig {
        smtp_url: read.optional_url("SMTP_URL", &["smtp", "smtps"]),
        from: read.checked("MAIL_FROM", is_address),
        smtp: SmtpSettings {
            kept_connections: read.number("SMTP_KEPT_CONNECTIONS", 1..=1000),
            connect_timeout: read
                .duration("SMTP_CONNECT_TIMEOUT", Duration::from_millis(1)..=Duration::from_mins(5)),
            reply_timeout: read
                .duration("SMTP_REPLY_TIMEOUT", Duration::from_millis(1)..=Duration::from_mins(10)),
            idle_timeout: read
                .duration("SMTP_IDLE_TIMEOUT", Duration::from_secs(1)..=Duration::from_hours(1)),
        },
        admin_emails: read.optional_parsed("ADMIN_EMAILS", |text| text.parse().ok()).unwrap_or_default(),
    }
}

fn http(read: &mut Reader<'_>) -> HttpConfig {
    HttpConfig {
        host: read.address("HOST"),
        port: read.number("PORT", 0..=u16::MAX),
        orders_port: read.number("ORDERS_PORT", 0..=u16::MAX),
        inventory_port: read.number("INVENTORY_PORT", 0..=u16::MAX),
        notifications_port: read.number("NOTIFICATIONS_PORT", 0..=u16::MAX),
        work_port: read.optional_number("WORK_PORT", 0..=u16::MAX),
        drain_delay: read.duration("DRAIN_DELAY", Duration::ZERO..=Duration::from_mins(10)),
    }
}

fn workers(read: &mut Reader<'_>) -> WorkersConfig {
    WorkersConfig {
        lease: Duration::from_secs(read.number("LEASE_SECONDS", 1..=3600)),
        reservation_ttl: read
            .duration("RESERVATION_TTL", Duration::from_secs(1)..=Duration::from_hours(24 * 30)),
        default_concurrency: read.number("QUEUE_CONCURRENCY_DEFAULT", 1..=100_000),
        notifications_concurrency: read.number("QUEUE_CONCURRENCY_NOTIFICATIONS", 1..=100_000),
        shutdown_deadline: read.duration("SHUTDOWN_DEADLINE", Duration::ZERO..=Duration::from_hours(1)),
    }
}

fn breakers(read: &mut Reader<'_>) -> BTreeMap<Dependency, BreakerSettings> {
    let mut settings = |dependency: Dependency| {
        let name = |what: &str| format!("BREAKER_{}_{what}", dependency.name().to_ascii_uppercase());
        BreakerSettings {
            failures: read.number(&name("FAILURES"), 1..=1_000_000),
            // A breaker that is open for no time at all would have what waits try as fast as it can.
            open_duration: read.duration(&name("OPEN"), Duration::from_millis(100)..=Duration::from_hours(1)),
            successes_to_close: read.number(&name("PROBES"), 1..=1000),
        }
    };
    Dependency::ALL.iter().map(|&dependency| (dependency, settings(dependency))).collect()
}

fn telemetry(read: &mut Reader<'_>) -> TelemetryConfig {
    let keep_days = read.number("LOG_KEEP_DAYS", 1..=3650);
    TelemetryConfig {
        log_level: read.checked("LOG_LEVEL", is_log_filter),
        log_format: read.one_of(
            "LOG_FORMAT",
            &[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)],
        ),
        log_files: read.optional("LOG_DIR").map(|dir| LogFiles { dir: PathBuf::from(dir), keep_days }),
        otlp_endpoint: read.optional_url("OTEL_EXPORTER_OTLP_ENDPOINT", &["http"]),
    }
}

/// A first look; the mailer reads it properly.
fn is_address(text: &str) -> bool {
    text.contains('@')
}

/// Whether every part is a level or `target=level`; the filter's own parser takes any word for a target.
fn is_log_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        level.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let names: Vec<_> = pairs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let lookup =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(lookup, &names)
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.http.port, 3000);
        assert_eq!(config.workers.lease, Duration::from_secs(10));
        assert!(config.database.url.is_none());
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let config = parse(&[("DATABASE_URL", ""), ("PORT", " ")]).unwrap();
        assert!(config.database.url.is_none());
        assert_eq!(config.http.port, 3000);
    }

    #[test]
    fn how_connections_to_the_mail_server_are_kept_is_read() {
        let given = [
            ("SMTP_CONNECT_TIMEOUT", "250ms"),
            ("SMTP_REPLY_TIMEOUT", "4s"),
            ("SMTP_IDLE_TIMEOUT", "2m"),
            ("SMTP_KEPT_CONNECTIONS", "3"),
            ("ADMIN_EMAILS", "a@example.com, b@example.com"),
        ];
        let mail = parse(&given).unwrap().mail;
        let expected = SmtpSettings {
            connect_timeout: Duration::from_millis(250),
            reply_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_mins(2),
            kept_connections: 3,
        };
        assert_eq!(mail.smtp, expected);
        assert_eq!(mail.admin_emails, "a@example.com,b@example.com".parse().unwrap());
        // What a mailer does that is told nothing is the default of the variables too.
        assert_eq!(parse(&[]).unwrap().mail.smtp, SmtpSettings::default());
    }

    #[test]
    fn every_wrong_value_is_reported_with_its_name_and_what_is_expected() {
        let error = parse(&[
            ("PORT", "seventy"),
            ("LEASE_SECONDS", "0"),
            ("LOG_FORMAT", "xml"),
            ("LOG_LEVEL", "loud"),
            ("ADMIN_EMAILS", "a@example.com, boss"),
        ])
        .unwrap_err();
        let text = error.to_string();
        for part in [
            "PORT is `seventy`",
            "LEASE_SECONDS is `0`",
            "LOG_FORMAT is `xml`",
            "`auto`, `pretty` or `json`",
            "LOG_LEVEL is `loud`",
            "ADMIN_EMAILS is `a@example.com, boss`",
        ] {
            assert!(text.contains(part), "`{part}` is missing in: {text}");
        }
    }

    #[test]
    fn every_breaker_has_settings_of_its_own() {
        let config = parse(&[("BREAKER_AMQP_FAILURES", "7"), ("BREAKER_REDIS_PROBES", "3")]).unwrap();
        let amqp = BreakerSettings { failures: 7, ..BreakerSettings::default() };
        assert_eq!(config.breakers[&Dependency::Amqp], amqp);
        assert_eq!(config.breakers[&Dependency::Smtp], BreakerSettings::default());
        assert_eq!(config.breakers[&Dependency::Redis].successes_to_close, 3);
        let error = parse(&[("BREAKER_SMTP_OPEN", "ever")]).unwrap_err().to_string();
        assert!(error.contains("BREAKER_SMTP_OPEN is `ever`"), "{error}");
        let error = parse(&[("BREAKER_SMTP_OPEN", "0s")]).unwrap_err().to_string();
        assert!(error.contains("BREAKER_SMTP_OPEN is `0s`, but should be a duration of 100ms"), "{error}");
    }

    #[test]
    fn the_value_of_a_secret_is_not_in_the_error_nor_in_the_debug_output() {
        let error = parse(&[("DATABASE_URL", "mysql://me:hunter2@db/shop")]).unwrap_err().to_string();
        assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
        // The secret itself, where its file should be named.
        for given in
            ["postgres://me:hunter2@db/shop", "me:hunter2@db/shop", "hunter2", "//me:hunter2@db/shop"]
        {
            let error = parse(&[("DATABASE_URL_FILE", given)]).unwrap_err().to_string();
            assert!(error.contains("DATABASE_URL_FILE should be a file that can be read"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = parse(&[("DATABASE_URL_FILE", "/no/such/file")]).unwrap_err().to_string();
        assert!(error.contains("DATABASE_URL_FILE is `/no/such/file`"), "{error}");
        let config = parse(&[
            ("DATABASE_URL", "postgres://me:hunter2@db/shop"),
            ("REDIS_URL", "redis://:hunter2@cache"),
            ("SMTP_URL", "smtps://me:hunter2@mail"),
            ("AMQP_URL", "amqp://me:hunter2@broker/%2f"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@traces"),
        ]);
        let shown = format!("{:?}", config.unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("postgres://me:***@db/shop"), "{shown}");
    }
}
