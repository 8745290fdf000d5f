//! The list of all variables: the one place of names and defaults.

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its default; `None` when being unset means something of its own.
    pub(crate) default: Option<&'static str>,
    /// What it should be, to finish the sentence "… should be".
    pub(crate) expects: &'static str,
    /// Whether its value is a secret, which can then be in a file that `<name>_FILE` names.
    pub(crate) is_secret: bool,
}

const fn setting(name: &'static str, default: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: Some(default), expects, is_secret: false }
}

const fn optional(name: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: None, expects, is_secret: false }
}

const fn secret(name: &'static str, expects: &'static str) -> Setting {
    Setting { name, default: None, expects, is_secret: true }
}

const RATE: &str = "so many calls in a second, minute or hour, such as 600/m, or `off`";
const FAILURES: &str = "a number of failures in a row, 1 to 1000000";
const OPEN: &str = "a duration of 100ms to an hour, such as 10s";
const PROBES: &str = "a number of trial calls, 1 to 1000";
const PORT: &str = "a port, 0 to 65535 (0 takes any free one)";

/// All variables with a name of their own, in the order of `.env.example`; families such as `RETRY_<STEP>_…` are read by
/// their pattern.
pub(crate) const SETTINGS: &[Setting] = &[
    secret("DATABASE_URL", "a URL such as postgres://user:password@host:5432/database"),
    setting("DATABASE_POOL_SIZE", "20", "a number of connections, 1 to 1000"),
    setting("DATABASE_WAIT", "30s", "a duration of at most an hour, such as 30s"),
    secret("REDIS_URL", "a URL such as redis://:password@host:6379/0, or rediss:// for TLS"),
    secret("AMQP_URL", "a URL such as amqps://user:password@host:5671/vhost, or amqp:// without TLS"),
    setting("EVENTS_RETENTION", "7d", "a duration of one second to 3650 days, such as 7d"),
    setting("EVENTS_MAXLEN", "100000", "a number of events, 1 to 100000000"),
    setting("EVENTS_STREAMS", "1000", "a number of open streams, 1 to 100000"),
    secret("SMTP_URL", "a URL such as smtp://user:password@host:587"),
    setting("MAIL_FROM", "Sagaline <shop@localhost>", "a mail address such as Shop <shop@example.com>"),
    setting("SMTP_CONNECT_TIMEOUT", "5s", "a duration of 1ms to 5 minutes, such as 5s"),
    setting("SMTP_REPLY_TIMEOUT", "30s", "a duration of 1ms to 10 minutes, such as 30s"),
    setting("SMTP_IDLE_TIMEOUT", "30s", "a duration of one second to an hour, such as 30s"),
    setting("SMTP_KEPT_CONNECTIONS", "16", "a number of connections, 1 to 1000"),
    optional(
        "ADMIN_EMAILS",
        "up to 20 mail addresses, separated by commas, such as a@example.com,b@example.com",
    ),
    setting("HOST", "127.0.0.1", "an IP address to listen on, such as 127.0.0.1 or 0.0.0.0"),
    setting("PORT", "3000", PORT),
    setting("ORDERS_PORT", "3001", PORT),
    setting("INVENTORY_PORT", "3002", PORT),
    setting("NOTIFICATIONS_PORT", "3003", PORT),
    optional("WORK_PORT", PORT),
    setting("DRAIN_DELAY", "0s", "a duration of at most 10m, such as 5s"),
    setting("AUTH", "keys", "`keys` or `off`"),
    setting("METRICS_PUBLIC", "false", "`true` or `false`"),
    optional("RATE_LIMIT_PER_KEY", RATE),
    optional("RATE_LIMIT_PER_ADDRESS", RATE),
    setting("CONNECTIONS_PER_ADDRESS", "1024", "a number of connections, 1 to 1000000"),
    optional("TRUSTED_PROXIES", "addresses or networks with commas between, such as 10.0.0.0/8,192.168.1.7"),
    optional("CORS_ORIGINS", "`*`, or origins with commas between, such as https://shop.example"),
    setting("LEASE_SECONDS", "10", "seconds, 1 to 3600"),
    setting("RESERVATION_TTL", "15m", "a duration of one second to 30 days, such as 15m"),
    setting("QUEUE_CONCURRENCY_DEFAULT", "1024", "a number of steps in flight, 1 to 100000"),
    setting("QUEUE_CONCURRENCY_NOTIFICATIONS", "64", "a number of steps in flight, 1 to 100000"),
    setting("SHUTDOWN_DEADLINE", "20s", "a duration of at most an hour, such as 20s"),
    setting("BREAKER_SMTP_FAILURES", "5", FAILURES),
    setting("BREAKER_SMTP_OPEN", "10s", OPEN),
    setting("BREAKER_SMTP_PROBES", "1", PROBES),
    setting("BREAKER_REDIS_FAILURES", "5", FAILURES),
    setting("BREAKER_REDIS_OPEN", "5s", OPEN),
    setting("BREAKER_REDIS_PROBES", "1", PROBES),
    setting("BREAKER_AMQP_FAILURES", "5", FAILURES),
    setting("BREAKER_AMQP_OPEN", "10s", OPEN),
    setting("BREAKER_AMQP_PROBES", "1", PROBES),
    setting("DEAD_JOB_TTL", "30d", "a duration of one minute to 10 years, such as 30d, or `never`"),
    setting(
        "DEAD_JOB_ARCHIVE_KEEP",
        "365d",
        "a duration of one minute to 10 years, such as 365d, or `never`",
    ),
    setting(
        "LOG_LEVEL",
        "info",
        "a level (error, warn, info, debug, trace) or a filter such as info,engine=debug",
    ),
    setting("LOG_FORMAT", "auto", "`auto`, `pretty` or `json`"),
    optional("LOG_DIR", "a directory for log files"),
    setting("LOG_KEEP_DAYS", "14", "a number of days, 1 to 3650"),
    secret("OTEL_EXPORTER_OTLP_ENDPOINT", "a URL without TLS, such as http://localhost:4318"),
    optional("SAGALINE_STATE_DIR", "a directory for the embedded default's data"),
    optional("SAGALINE_PG_BIN", "the directory that holds PostgreSQL's `postgres` and `initdb`"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_file_holds_the_same_variables_and_defaults_in_the_same_order() {
        let example = include_str!("../../.env.example");
        let in_file: Vec<(&str, &str)> = example
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let in_code: Vec<(&str, &str)> =
            SETTINGS.iter().map(|setting| (setting.name, setting.default.unwrap_or_default())).collect();
        assert_eq!(in_file, in_code);
    }

    #[test]
    fn the_compose_file_sets_only_variables_that_there_are() {
        let compose = include_str!("../../docker-compose.yml");
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let set = compose.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name);
        // Those with this prefix are for PostgreSQL's own image.
        let ours: Vec<&str> = set.filter(|name| is_name(name) && !name.starts_with("POSTGRES_")).collect();
        assert!(ours.contains(&"DATABASE_URL") && ours.contains(&"SMTP_URL"), "{ours:?}");
        let of_a_family =
            |name: &str| ["RETRY_", "DEAD_JOB_TTL_"].iter().any(|family| name.starts_with(family));
        for name in ours.into_iter().filter(|name| !of_a_family(name)) {
            let is_ours = |setting: &Setting| {
                setting.name == name || setting.is_secret && name.strip_suffix("_FILE") == Some(setting.name)
            };
            assert!(SETTINGS.iter().any(is_ours), "no setting is named {name}");
        }
    }
}
