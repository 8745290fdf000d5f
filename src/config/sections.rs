//! The sections of the configuration whose settings all have a fixed name.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use devkit::postgres::{EmbeddedError, Search, StateDir};
use shop::{AdminEmails, mail::SmtpSettings};
use tracing_subscriber::filter::LevelFilter;

use super::{reader::Reader, secret::SecretUrl, section_macro::section};

const PORT: &str = "a port, 0 to 65535 (0 takes any free one)";
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

section! {
    /// Where PostgreSQL is, and how it is used.
    DatabaseConfig {
        /// `dev` and `bench` use an embedded PostgreSQL when it is unset.
        url: Option<SecretUrl> =
            secret("DATABASE_URL", "a URL such as postgres://user:password@host:5432/database")
            => optional_url(&["postgres", "postgresql"]);
        /// Connections of each pool: the API has one, the workers have one.
        pool_size: u32 = setting("DATABASE_POOL_SIZE", "20", "a number of connections, 1 to 1000")
            => number(1..=1000);
        /// How long a command waits at its start for a database that does not answer yet.
        startup_wait: Duration = setting("DATABASE_WAIT", "30s", "a duration of at most an hour, such as 30s")
            => duration(Duration::ZERO..=HOUR);
    }
}

section! {
    /// Where Redis is.
    RedisConfig {
        /// Without it, no hints, no shared rate limits and no stream of events.
        url: Option<SecretUrl> =
            secret("REDIS_URL", "a URL such as redis://:password@host:6379/0, or rediss:// for TLS")
            => optional_url(&["redis", "rediss"]);
        /// Before the names of all keys and of the stream, for a Redis that several systems share.
        prefix: Option<String> =
            optional("REDIS_PREFIX", "1 to 64 letters, digits, dots, hyphens and underscores, such as shop-2")
            => optional_parsed(redis_prefix);
    }
}

section! {
    /// Where events are published besides the Redis stream, and how long they are kept.
    EventsConfig {
        /// The RabbitMQ broker, if any.
        amqp_url: Option<SecretUrl> =
            secret("AMQP_URL", "a URL such as amqps://user:password@host:5671/vhost, or amqp:// without TLS")
            => optional_url(&["amqp", "amqps"]);
        /// The shortest time for which events are kept.
        retention: Duration = setting("EVENTS_RETENTION", "7d", "a duration of one second to 3650 days, such as 7d")
            => duration(SECOND..=24 * 3650 * HOUR);
        /// The approximate length of the Redis stream.
        stream_max_len: u32 = setting("EVENTS_MAXLEN", "100000", "a number of events, 1 to 100000000")
            => number(1..=100_000_000);
        /// Open event streams of one serving process.
        streams: usize = setting("EVENTS_STREAMS", "1000", "a number of open streams, 1 to 100000")
            => number(1..=100_000);
    }
}

section! {
    /// How mails are sent.
    MailConfig {
        /// The mail server; without one, `dev` writes mails to files.
        smtp_url: Option<SecretUrl> = secret("SMTP_URL", "a URL such as smtp://user:password@host:587")
            => optional_url(&["smtp", "smtps"]);
        /// The sender of every mail.
        from: String =
            setting("MAIL_FROM", "Sagaline <shop@localhost>", "a mail address such as Shop <shop@example.com>")
            => checked(is_address);
        /// How long connecting to the mail server may take.
        connect_timeout: Duration = setting("SMTP_CONNECT_TIMEOUT", "5s", "a duration of 1ms to 5 minutes, such as 5s")
            => duration(MILLISECOND..=5 * MINUTE);
        /// How long each of its replies may take.
        reply_timeout: Duration = setting("SMTP_REPLY_TIMEOUT", "30s", "a duration of 1ms to 10 minutes, such as 30s")
            => duration(MILLISECOND..=10 * MINUTE);
        /// How long an unused connection is kept.
        idle_timeout: Duration = setting("SMTP_IDLE_TIMEOUT", "30s", "a duration of one second to an hour, such as 30s")
            => duration(SECOND..=HOUR);
        /// How many unused connections are kept.
        max_idle_connections: u32 = setting("SMTP_MAX_IDLE_CONNECTIONS", "16", "a number of connections, 1 to 1000")
            => number(1..=1000);
        /// Who gets a mail when a product runs low.
        admin_emails: AdminEmails =
            optional("ADMIN_EMAILS", "up to 20 mail addresses, separated by commas, such as a@example.com,b@example.com")
            => parsed_or_default();
    }
}

impl MailConfig {
    /// How connections to the mail server are made and kept.
    pub(crate) fn smtp_settings(&self) -> SmtpSettings {
        SmtpSettings {
            max_idle_connections: self.max_idle_connections,
            connect_timeout: self.connect_timeout,
            reply_timeout: self.reply_timeout,
            idle_timeout: self.idle_timeout,
        }
    }
}

section! {
    /// Where the API listens.
    HttpConfig {
        /// The address to listen on.
        host: IpAddr = setting("HOST", "127.0.0.1", "an IP address to listen on, such as 127.0.0.1 or 0.0.0.0")
            => address();
        /// The port when several services share a process.
        port: u16 = setting("PORT", "3000", PORT) => number(0..=u16::MAX);
        /// The port of the orders service alone.
        orders_port: u16 = setting("ORDERS_PORT", "3001", PORT) => number(0..=u16::MAX);
        /// The port of the inventory service alone.
        inventory_port: u16 = setting("INVENTORY_PORT", "3002", PORT) => number(0..=u16::MAX);
        /// The port of the notifications service alone.
        notifications_port: u16 = setting("NOTIFICATIONS_PORT", "3003", PORT) => number(0..=u16::MAX);
        /// The port of a worker's health and metrics; unset, it has none.
        work_port: Option<u16> = optional("WORK_PORT", PORT) => optional_number(0..=u16::MAX);
        /// How long a process that has to stop serves on while it reports itself as not ready, so that no new requests are
        /// on their way when it stops.
        drain_delay: Duration = setting("DRAIN_DELAY", "0s", "a duration of at most 10m, such as 5s")
            => duration(Duration::ZERO..=10 * MINUTE);
    }
}

/// The shortest lease in seconds. Tests with real processes use shorter ones, so that they need not wait.
const SHORTEST_LEASE: u64 = if cfg!(feature = "testing") { 1 } else { engine::SHORTEST_LEASE.as_secs() };

/// What the time for a payment should be.
const PAYMENT_WINDOW: &str = "a duration of at least one second, shorter than RESERVATION_TTL, such as 10m";

impl WorkersConfig {
    /// Checks settings that depend on each other: an order that outlives its reservation can't wait for a payment.
    pub(super) fn check(&self, read: &mut Reader<'_>) {
        if let Some(window) = self.payment_window.filter(|window| *window >= self.reservation_ttl) {
            let ttl = self.reservation_ttl.as_secs();
            let expected = format!("{PAYMENT_WINDOW}; that is {ttl} seconds");
            read.refuse_member("PAYMENT_WINDOW".into(), format!("{} seconds", window.as_secs()), expected);
        }
    }
}

section! {
    /// How sagas are run.
    WorkersConfig {
        /// How long a process may show no sign of life before other processes take over its sagas.
        lease: Duration = setting("LEASE_SECONDS", "10", "seconds, 8 to 3600: a slow batch may need 8")
            => seconds(SHORTEST_LEASE..=3600);
        /// How large an input or output of a saga may be. It can't be less than the shop's largest mail may take up.
        max_payload: usize = setting("MAX_PAYLOAD_BYTES", "262144", "bytes, 262144 to 67108864")
            => number(262_144..=67_108_864);
        /// How long a placement may take before its stock is released.
        reservation_ttl: Duration = setting("RESERVATION_TTL", "15m", "a duration of one second to 30 days, such as 15m")
            => duration(SECOND..=24 * 30 * HOUR);
        /// How long an order waits for its payment; unset, it waits for none.
        payment_window: Option<Duration> = optional("PAYMENT_WINDOW", PAYMENT_WINDOW)
            => optional_duration(SECOND..=24 * 30 * HOUR);
        /// How long a return waits for a decision.
        return_approval_window: Duration =
            setting("RETURN_APPROVAL_WINDOW", "14d", "a duration of one second to 3650 days, such as 14d")
            => duration(SECOND..=24 * 3650 * HOUR);
        /// How long an approved return waits for its parcel.
        return_parcel_window: Duration =
            setting("RETURN_PARCEL_WINDOW", "30d", "a duration of one second to 3650 days, such as 30d")
            => duration(SECOND..=24 * 3650 * HOUR);
        /// Steps of the queue `default` in flight in one process.
        default_concurrency: usize =
            setting("QUEUE_CONCURRENCY_DEFAULT", "1024", "a number of steps in flight, 1 to 100000")
            => number(1..=100_000);
        /// Steps of the queue `notifications` in flight in one process.
        notifications_concurrency: usize =
            setting("QUEUE_CONCURRENCY_NOTIFICATIONS", "64", "a number of steps in flight, 1 to 100000")
            => number(1..=100_000);
        /// How long steps in flight may take to finish when the process stops.
        shutdown_deadline: Duration = setting("SHUTDOWN_DEADLINE", "20s", "a duration of at most an hour, such as 20s")
            => duration(Duration::ZERO..=HOUR);
    }
}

section! {
    /// What is logged and traced.
    TelemetryConfig {
        /// A filter in the notation of `tracing-subscriber`, such as `info` or `info,engine=debug`.
        log_level: String = setting(
            "LOG_LEVEL",
            "info",
            "a level (error, warn, info, debug, trace) or a filter such as info,engine=debug",
        ) => checked(is_log_filter);
        /// The format of the log.
        log_format: LogFormat = setting("LOG_FORMAT", "auto", "`auto`, `pretty` or `json`")
            => one_of(&[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]);
        /// The directory of log files, if there are any.
        log_dir: Option<PathBuf> = optional("LOG_DIR", "a directory for log files") => optional_path();
        /// How many daily files of each kind of process are kept.
        log_keep_days: usize = setting("LOG_KEEP_DAYS", "14", "a number of days, 1 to 3650") => number(1..=3650);
        /// The collector to which traces are sent over OTLP and HTTP, if there is one.
        otlp_endpoint: Option<SecretUrl> =
            secret("OTEL_EXPORTER_OTLP_ENDPOINT", "a URL without TLS, such as http://localhost:4318")
            => optional_url(&["http"]);
    }
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

section! {
    /// Where the embedded PostgreSQL keeps its data and has its binaries.
    EmbeddedConfig {
        /// Holds the server's data, the mails and the logs of child processes.
        state_dir: Option<PathBuf> = optional("SAGALINE_STATE_DIR", "a directory for the embedded default's data")
            => optional_path();
        /// Holds `postgres` and `initdb`.
        pg_bin: Option<PathBuf> =
            optional("SAGALINE_PG_BIN", "the directory that holds PostgreSQL's `postgres` and `initdb`")
            => optional_path();
    }
}

impl EmbeddedConfig {
    /// The state directory: the configured one, else the default.
    ///
    /// # Errors
    /// When there is no default.
    pub(crate) fn state_dir(&self) -> Result<StateDir, EmbeddedError> {
        self.state_dir.clone().map_or_else(StateDir::from_env, |dir| Ok(StateDir::at(dir)))
    }

    /// Where the server's binaries are searched.
    pub(crate) fn search(&self) -> Search {
        self.pg_bin.clone().map_or_else(Search::from_env, |dir| Search::in_dirs([dir]))
    }
}

/// What every key and the stream begin with: `<prefix>:`.
fn redis_prefix(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ((1..=64).contains(&text.len()) && text.chars().all(fits)).then(|| text.to_owned())
}

impl RedisConfig {
    /// What the names of keys begin with.
    pub(crate) fn key_prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or("sagaline")
    }

    /// The name of the stream of events.
    pub(crate) fn stream(&self, name: &str) -> String {
        self.prefix.as_ref().map_or_else(|| name.to_owned(), |prefix| format!("{prefix}:{name}"))
    }
}

/// A first check; the mailer parses the address.
fn is_address(text: &str) -> bool {
    text.contains('@')
}

/// Whether every part is a level or `target=level`; the filter's own parser takes any word for a target.
fn is_log_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        level.trim().parse::<LevelFilter>().is_ok()
    })
}
