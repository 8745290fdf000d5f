//! Who may call the API, and how often.

use api::{Access, Auth, CorsOrigins, Rate, TrustedProxies};

use super::{
    reader::Reader,
    settings::{Setting, optional, setting},
};

/// Who may call the API, and how often.
#[derive(Clone, Debug)]
pub(crate) struct AccessConfig {
    /// Whether callers need keys.
    pub(crate) auth: Auth,
    /// Whether `/metrics` answers without a key.
    pub(crate) is_metrics_public: bool,
    /// How often each key may call.
    pub(crate) rate_per_key: RateChoice,
    /// How often each address may call without a key.
    pub(crate) rate_per_address: RateChoice,
    /// The most connections of one address that is not a trusted proxy.
    pub(crate) connections_per_address: usize,
    /// Proxies that are believed when they name the caller's address.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Origins whose pages may call.
    pub(crate) cors_origins: CorsOrigins,
}

/// A configured rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateChoice {
    /// Not configured; the command's default applies.
    Unset,
    /// No limit.
    Off,
    /// This limit.
    At(Rate),
}

/// The default limit for each key, high enough for a whole shop that uses one key.
const DEFAULT_RATE_PER_KEY: &str = "30000/m";
/// The default limit for each address that calls without a key.
const DEFAULT_RATE_PER_ADDRESS: &str = "600/m";

const RATE: &str = "a number of calls per second, minute or hour, such as 600/m, or `off`";
const AUTH: Setting = setting("AUTH", "keys", "`keys` or `off`");
const METRICS_PUBLIC: Setting = setting("METRICS_PUBLIC", "false", "`true` or `false`");
const RATE_LIMIT_PER_KEY: Setting = optional("RATE_LIMIT_PER_KEY", RATE);
const RATE_LIMIT_PER_ADDRESS: Setting = optional("RATE_LIMIT_PER_ADDRESS", RATE);
const CONNECTIONS_PER_ADDRESS: Setting =
    setting("CONNECTIONS_PER_ADDRESS", "1024", "a number of connections, 1 to 1000000");
const TRUSTED_PROXIES: Setting =
    optional("TRUSTED_PROXIES", "addresses or networks with commas between, such as 10.0.0.0/8,192.168.1.7");
const CORS_ORIGINS: Setting =
    optional("CORS_ORIGINS", "`*`, or origins with commas between, such as https://shop.example");

impl AccessConfig {
    /// The variables of this section, in the order of `.env.example`.
    pub(super) const SETTINGS: &'static [Setting] = &[
        AUTH,
        METRICS_PUBLIC,
        RATE_LIMIT_PER_KEY,
        RATE_LIMIT_PER_ADDRESS,
        CONNECTIONS_PER_ADDRESS,
        TRUSTED_PROXIES,
        CORS_ORIGINS,
    ];

    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let access = Self {
            auth: read.one_of(&AUTH, &[("keys", Auth::Keys), ("off", Auth::Off)]),
            is_metrics_public: read.one_of(&METRICS_PUBLIC, &[("true", true), ("false", false)]),
            rate_per_key: rate(read, &RATE_LIMIT_PER_KEY),
            rate_per_address: rate(read, &RATE_LIMIT_PER_ADDRESS),
            connections_per_address: read.number(&CONNECTIONS_PER_ADDRESS, 1..=1_000_000),
            trusted_proxies: read.parsed_or_default(&TRUSTED_PROXIES),
            cors_origins: read
                .optional_parsed(&CORS_ORIGINS, |text| CorsOrigins::parse(text).ok())
                .unwrap_or_default(),
        };
        if access.auth == Auth::Off && access.cors_origins == CorsOrigins::Any {
            // Otherwise any page in a browser of this network could do everything.
            let why = "a list of origins while AUTH is off: every page in a browser that reaches this port could do everything";
            read.refuse_member("CORS_ORIGINS".into(), "*".into(), why);
        }
        access
    }

    /// Removes default rate limits and keeps configured ones. For `dev`, which serves one person.
    pub(crate) fn uncounted(mut self) -> Self {
        for choice in [&mut self.rate_per_key, &mut self.rate_per_address] {
            if *choice == RateChoice::Unset {
                *choice = RateChoice::Off;
            }
        }
        self.connections_per_address = usize::MAX;
        self
    }

    /// Disables keys and rate limits, and allows no other origins. For `bench`.
    pub(crate) fn open(mut self) -> Self {
        self.auth = Auth::Off;
        self.cors_origins = CorsOrigins::None;
        self.rate_per_key = RateChoice::Off;
        self.rate_per_address = RateChoice::Off;
        self.uncounted()
    }

    /// Converts to the API's settings. Without keys all callers are known by address only, so addresses are limited
    /// only if that is configured.
    pub(crate) fn to_api(&self) -> Access {
        let per_address = match self.auth {
            Auth::Keys => DEFAULT_RATE_PER_ADDRESS.parse().ok(),
            Auth::Off => None,
        };
        Access {
            auth: self.auth,
            is_metrics_public: self.is_metrics_public,
            rate_per_key: self.rate_per_key.or(DEFAULT_RATE_PER_KEY.parse().ok()),
            rate_per_address: self.rate_per_address.or(per_address),
            shared_limiter: None,
            trusted_proxies: self.trusted_proxies.clone(),
            cors_origins: self.cors_origins.clone(),
        }
    }
}

impl RateChoice {
    fn or(self, default: Option<Rate>) -> Option<Rate> {
        match self {
            Self::Unset => default,
            Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }
}

fn rate(read: &mut Reader<'_>, setting: &Setting) -> RateChoice {
    let choice = read.optional_parsed(setting, |text| match text {
        "off" => Some(RateChoice::Off),
        text => text.parse().ok().map(RateChoice::At),
    });
    choice.unwrap_or(RateChoice::Unset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(pairs: &[(&str, &str)]) -> AccessConfig {
        let given =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut read = Reader::new(&given, &[]);
        let access = AccessConfig::read(&mut read);
        read.finish().unwrap();
        access
    }

    #[test]
    fn by_default_keys_are_required_and_calls_are_limited() {
        let api = access(&[]).to_api();
        assert_eq!((api.auth, api.is_metrics_public), (Auth::Keys, false));
        assert!(api.rate_per_key.is_some() && api.rate_per_address.is_some());
        assert!(api.trusted_proxies.is_empty());
        assert_eq!(api.cors_origins, CorsOrigins::None);
    }

    #[test]
    fn without_keys_addresses_are_limited_only_if_configured() {
        assert_eq!(access(&[("AUTH", "off")]).to_api().rate_per_address, None);
        let chosen = access(&[("AUTH", "off"), ("RATE_LIMIT_PER_ADDRESS", "5/s")]).to_api();
        assert_eq!(chosen.rate_per_address, "5/s".parse().ok());
    }

    #[test]
    fn dev_limits_calls_only_if_configured() {
        assert_eq!(access(&[]).uncounted().to_api().rate_per_key, None);
        let chosen = access(&[("RATE_LIMIT_PER_KEY", "5/s")]).uncounted().to_api();
        assert_eq!(chosen.rate_per_key, "5/s".parse().ok());
        assert_eq!(access(&[("RATE_LIMIT_PER_KEY", "5/s")]).open().to_api().rate_per_key, None);
    }

    #[test]
    fn all_origins_are_refused_without_keys() {
        let given = |pairs: &[(&str, &str)]| {
            let lookup =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let mut read = Reader::new(&lookup, &[]);
            let access = AccessConfig::read(&mut read);
            read.finish().map(|()| access.cors_origins)
        };
        let error = given(&[("AUTH", "off"), ("CORS_ORIGINS", "*")]).unwrap_err().to_string();
        assert!(error.contains("CORS_ORIGINS is `*`") && error.contains("AUTH is off"), "{error}");
        assert_eq!(given(&[("CORS_ORIGINS", "*")]).unwrap(), CorsOrigins::Any);
        given(&[("AUTH", "off"), ("CORS_ORIGINS", "https://shop.example")]).unwrap();
    }

    #[test]
    fn invalid_values_are_refused_with_the_name_of_the_variable() {
        let junk = [
            ("AUTH", "maybe"),
            ("METRICS_PUBLIC", "1"),
            ("RATE_LIMIT_PER_KEY", "many"),
            ("RATE_LIMIT_PER_ADDRESS", "0/s"),
            ("CONNECTIONS_PER_ADDRESS", "0"),
            ("TRUSTED_PROXIES", "the proxy"),
            ("CORS_ORIGINS", "https://shop.example/"),
        ];
        let given =
            |name: &str| junk.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut read = Reader::new(&given, &[]);
        AccessConfig::read(&mut read);
        let error = read.finish().unwrap_err().to_string();
        for (name, value) in junk {
            assert!(error.contains(&format!("{name} is `{value}`")), "{name} in: {error}");
        }
    }
}
