//! Configuration: environment variables, read once and parsed into typed structs.
//!
//! Every variable is declared once, with its default and what it should be, in the section that it belongs to;
//! `.env.example` holds the same list and a test keeps the two equal. An empty variable counts as unset. A wrong value is
//! reported with the variable's name and what is expected, and the value of a secret is never shown.

mod access;
mod breakers;
mod dead_jobs;
mod duration;
mod misspelt;
mod reader;
mod redact;
mod retention;
mod retries;
mod secret;
mod section_macro;
mod sections;
mod settings;
mod unescaped;

use std::env;

use self::{reader::Reader, settings::Setting};

pub(crate) use self::{
    access::AccessConfig,
    breakers::BreakersConfig,
    dead_jobs::DeadJobTtls,
    duration::parse_with_unit as parse_duration,
    reader::ConfigError,
    retention::RetentionConfig,
    retries::Retries,
    secret::SecretUrl,
    sections::{
        DatabaseConfig, EmbeddedConfig, EventsConfig, HttpConfig, LogFormat, MailConfig, RedisConfig,
        TelemetryConfig, WorkersConfig,
    },
    unescaped::{Unescaped, refuse_unescaped},
};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where PostgreSQL is, and how it is used.
    pub(crate) database: DatabaseConfig,
    /// Where Redis is.
    pub(crate) redis: RedisConfig,
    /// Where events are published, and how long they are kept.
    pub(crate) events: EventsConfig,
    /// How mails are sent.
    pub(crate) mail: MailConfig,
    /// Where the API listens.
    pub(crate) http: HttpConfig,
    /// Who may call the API, and how often.
    pub(crate) access: AccessConfig,
    /// How workers run sagas.
    pub(crate) workers: WorkersConfig,
    /// When the circuit breakers open, for how long, and what closes them.
    pub(crate) breakers: BreakersConfig,
    /// `RETRY_<STEP>_…`: the retry policies of steps, as far as they are set.
    pub(crate) retries: Retries,
    /// `DEAD_JOB_TTL…`: how long dead jobs wait for an operator.
    pub(crate) dead_job_ttls: DeadJobTtls,
    /// How long what has ended is kept.
    pub(crate) retention: RetentionConfig,
    /// What is logged and traced.
    pub(crate) telemetry: TelemetryConfig,
    /// Where the embedded PostgreSQL keeps its data and has its binaries.
    pub(crate) embedded: EmbeddedConfig,
}

/// All variables with a fixed name, in the order of `.env.example`; families such as `RETRY_<STEP>_…` are read by their
/// pattern.
pub(crate) fn settings() -> impl Iterator<Item = &'static Setting> {
    [
        DatabaseConfig::SETTINGS,
        RedisConfig::SETTINGS,
        EventsConfig::SETTINGS,
        MailConfig::SETTINGS,
        HttpConfig::SETTINGS,
        AccessConfig::SETTINGS,
        WorkersConfig::SETTINGS,
        BreakersConfig::SETTINGS,
        DeadJobTtls::SETTINGS,
        RetentionConfig::SETTINGS,
        TelemetryConfig::SETTINGS,
        EmbeddedConfig::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

impl Config {
    /// Reads this process's environment.
    ///
    /// # Errors
    /// When any variable has a value that can't be used; the error lists all of them.
    pub(crate) fn from_env() -> Result<Self, ConfigError> {
        let names: Vec<_> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        Self::parse(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()), &names)
    }

    /// Parses the values that `lookup` returns; `names` are the names of all variables that are set.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub(crate) fn parse(
        lookup: impl Fn(&str) -> Option<String>,
        names: &[String],
    ) -> Result<Self, ConfigError> {
        let mut read = Reader::new(&lookup, names);
        let config = Self {
            database: DatabaseConfig::read(&mut read),
            redis: RedisConfig::read(&mut read),
            events: EventsConfig::read(&mut read),
            mail: MailConfig::read(&mut read),
            http: HttpConfig::read(&mut read),
            access: AccessConfig::read(&mut read),
            workers: WorkersConfig::read(&mut read),
            breakers: BreakersConfig::read(&mut read),
            retries: Retries::read(&mut read),
            dead_job_ttls: DeadJobTtls::read(&mut read),
            retention: RetentionConfig::read(&mut read),
            telemetry: TelemetryConfig::read(&mut read),
            embedded: EmbeddedConfig::read(&mut read),
        };
        config.workers.check(&mut read);
        for (variable, meant) in misspelt::find(&lookup, names) {
            read.refuse_misspelt(variable, meant);
        }
        read.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::breakers::{BreakerSettings, Dependency};
    use shop::mail::SmtpSettings;

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
    fn the_settings_of_connections_to_the_mail_server_are_read() {
        let given = [
            ("SMTP_CONNECT_TIMEOUT", "250ms"),
            ("SMTP_REPLY_TIMEOUT", "4s"),
            ("SMTP_IDLE_TIMEOUT", "2m"),
            ("SMTP_MAX_IDLE_CONNECTIONS", "3"),
            ("ADMIN_EMAILS", "a@example.com, b@example.com"),
        ];
        let mail = parse(&given).unwrap().mail;
        let expected = SmtpSettings {
            connect_timeout: Duration::from_millis(250),
            reply_timeout: Duration::from_secs(4),
            idle_timeout: Duration::from_mins(2),
            max_idle_connections: 3,
        };
        assert_eq!(mail.smtp_settings(), expected);
        assert_eq!(mail.admin_emails, "a@example.com,b@example.com".parse().unwrap());
        // The defaults of the mailer are the same as those of the variables.
        assert_eq!(parse(&[]).unwrap().mail.smtp_settings(), SmtpSettings::default());
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
    fn the_time_for_a_payment_is_shorter_than_that_for_a_placement() {
        assert_eq!(parse(&[]).unwrap().workers.payment_window, None);
        let window = |window, ttl| {
            let config = parse(&[("PAYMENT_WINDOW", window), ("RESERVATION_TTL", ttl)]);
            config.map(|config| config.workers.payment_window).map_err(|error| error.to_string())
        };
        assert_eq!(window("10m", "15m"), Ok(Some(Duration::from_mins(10))));
        assert_eq!(window("", "15m"), Ok(None));
        for (given, ttl) in [("15m", ""), ("2h", "1h"), ("0s", "1h"), ("soon", "1h")] {
            let error = window(given, ttl).unwrap_err();
            assert!(
                error.contains("PAYMENT_WINDOW is") && error.contains("shorter than RESERVATION_TTL"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_breaker_has_its_own_settings() {
        let config = parse(&[("BREAKER_AMQP_FAILURES", "7"), ("BREAKER_REDIS_PROBES", "3")]).unwrap();
        let amqp = BreakerSettings { failures: 7, ..BreakerSettings::default() };
        assert_eq!(config.breakers.of(Dependency::Amqp), amqp);
        assert_eq!(config.breakers.of(Dependency::Smtp), BreakerSettings::default());
        assert_eq!(config.breakers.of(Dependency::Redis).successes_to_close, 3);
        let error = parse(&[("BREAKER_SMTP_OPEN", "ever")]).unwrap_err().to_string();
        assert!(error.contains("BREAKER_SMTP_OPEN is `ever`"), "{error}");
        let error = parse(&[("BREAKER_SMTP_OPEN", "0s")]).unwrap_err().to_string();
        assert!(error.contains("BREAKER_SMTP_OPEN is `0s`, but should be a duration of 100ms"), "{error}");
    }

    #[test]
    fn the_value_of_a_secret_is_not_in_the_error_nor_in_the_debug_output() {
        let error = parse(&[("DATABASE_URL", "mysql://me:hunter2@db/shop")]).unwrap_err().to_string();
        assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
        // The secret itself is given where the name of its file is expected.
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

    #[test]
    fn the_example_file_holds_the_same_variables_and_defaults_in_the_same_order() {
        let example = include_str!("../.env.example");
        let in_file: Vec<(&str, &str)> = example
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .collect();
        let in_code: Vec<(&str, &str)> =
            settings().map(|setting| (setting.name, setting.default.unwrap_or_default())).collect();
        assert_eq!(in_file, in_code);
    }

    #[test]
    fn the_compose_file_sets_only_known_variables() {
        let compose = include_str!("../docker-compose.yml");
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let set = compose.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name);
        // Variables with this prefix are for PostgreSQL's own image.
        let ours: Vec<&str> = set.filter(|name| is_name(name) && !name.starts_with("POSTGRES_")).collect();
        assert!(ours.contains(&"DATABASE_URL") && ours.contains(&"SMTP_URL"), "{ours:?}");
        let of_a_family =
            |name: &str| ["RETRY_", "DEAD_JOB_TTL_"].iter().any(|family| name.starts_with(family));
        for name in ours.into_iter().filter(|name| !of_a_family(name)) {
            let is_ours = |setting: &Setting| {
                setting.name == name || setting.is_secret && name.strip_suffix("_FILE") == Some(setting.name)
            };
            assert!(settings().any(is_ours), "no setting is named {name}");
        }
    }
}
