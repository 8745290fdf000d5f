//! Who may call the API, and how often.

use api::{Access, Auth, CorsOrigins, Rate, TrustedProxies};

use super::reader::Reader;

/// Who may call the API, and how often.
#[derive(Clone, Debug)]
pub(crate) struct AccessConfig {
    /// Whether callers need keys.
    pub(crate) auth: Auth,
    /// Whether `/metrics` answers everybody.
    pub(crate) is_metrics_public: bool,
    /// How often each key may call.
    pub(crate) rate_per_key: RateChoice,
    /// How often each address may call without a key.
    pub(crate) rate_per_address: RateChoice,
    /// The most connections of one address that is no trusted proxy.
    pub(crate) connections_per_address: usize,
    /// Who may say for whom they call.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Whose pages may call.
    pub(crate) cors_origins: CorsOrigins,
}

/// How often something may happen, as far as somebody has chosen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateChoice {
    /// Nobody has; the default is that of the command.
    Unset,
    /// As often as it likes.
    Off,
    /// So often.
    At(Rate),
}

/// What a key may do unless somebody chose otherwise: a whole shop calls with one.
const RATE_PER_KEY: &str = "30000/m";
/// What an address may do without a key unless somebody chose otherwise.
const RATE_PER_ADDRESS: &str = "600/m";

impl AccessConfig {
    pub(super) fn read(read: &mut Reader<'_>) -> Self {
        let access = Self {
            auth: read.one_of("AUTH", &[("keys", Auth::Keys), ("off", Auth::Off)]),
            is_metrics_public: read.one_of("METRICS_PUBLIC", &[("true", true), ("false", false)]),
            rate_per_key: rate(read, "RATE_LIMIT_PER_KEY"),
            rate_per_address: rate(read, "RATE_LIMIT_PER_ADDRESS"),
            connections_per_address: read.number("CONNECTIONS_PER_ADDRESS", 1..=1_000_000),
            trusted_proxies: read
                .optional_parsed("TRUSTED_PROXIES", |text| text.parse().ok())
                .unwrap_or_default(),
            cors_origins: read
                .optional_parsed("CORS_ORIGINS", |text| CorsOrigins::parse(text).ok())
                .unwrap_or_default(),
        };
        if access.auth == Auth::Off && access.cors_origins == CorsOrigins::Any {
            // Then any page that somebody on this network looks at could do everything.
            let why = "a list of origins while AUTH is off: every page in a browser that reaches this port could do everything";
            read.refuse_member("CORS_ORIGINS".into(), "*".into(), why);
        }
        access
    }

    /// Nothing is counted unless somebody chose that it is: for one person, or for measuring.
    pub(crate) fn uncounted(mut self) -> Self {
        for choice in [&mut self.rate_per_key, &mut self.rate_per_address] {
            if *choice == RateChoice::Unset {
                *choice = RateChoice::Off;
            }
        }
        self.connections_per_address = usize::MAX;
        self
    }

    /// No keys, no foreign pages, and nothing is counted whatever somebody chose.
    pub(crate) fn open(mut self) -> Self {
        self.auth = Auth::Off;
        self.cors_origins = CorsOrigins::None;
        self.rate_per_key = RateChoice::Off;
        self.rate_per_address = RateChoice::Off;
        self.uncounted()
    }

    /// As the API wants it. Without keys everybody calls by address alone, so that is counted only when somebody chose
    /// it.
    pub(crate) fn to_api(&self) -> Access {
        let per_address = match self.auth {
            Auth::Keys => RATE_PER_ADDRESS.parse().ok(),
            Auth::Off => None,
        };
        Access {
            auth: self.auth,
            is_metrics_public: self.is_metrics_public,
            rate_per_key: self.rate_per_key.or(RATE_PER_KEY.parse().ok()),
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

fn rate(read: &mut Reader<'_>, name: &str) -> RateChoice {
    let choice = read.optional_parsed(name, |text| match text {
        "off" => Some(RateChoice::Off),
        text => text.parse().ok().map(RateChoice::At),
    });
    choice.unwrap_or(RateChoice::Unset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn access(pairs: &[(&str, &str)]) -> AccessConfig {
        let given =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(given, &[]).unwrap().access
    }

    #[test]
    fn unless_somebody_says_otherwise_keys_are_asked_for_and_calls_are_counted() {
        let api = access(&[]).to_api();
        assert_eq!((api.auth, api.is_metrics_public), (Auth::Keys, false));
        assert!(api.rate_per_key.is_some() && api.rate_per_address.is_some());
        assert!(api.trusted_proxies.is_empty());
        assert_eq!(api.cors_origins, CorsOrigins::None);
    }

    #[test]
    fn without_keys_addresses_are_counted_only_when_somebody_says_so() {
        assert_eq!(access(&[("AUTH", "off")]).to_api().rate_per_address, None);
        let chosen = access(&[("AUTH", "off"), ("RATE_LIMIT_PER_ADDRESS", "5/s")]).to_api();
        assert_eq!(chosen.rate_per_address, "5/s".parse().ok());
    }

    #[test]
    fn one_person_is_counted_only_when_somebody_says_so() {
        assert_eq!(access(&[]).uncounted().to_api().rate_per_key, None);
        let chosen = access(&[("RATE_LIMIT_PER_KEY", "5/s")]).uncounted().to_api();
        assert_eq!(chosen.rate_per_key, "5/s".parse().ok());
        assert_eq!(access(&[("RATE_LIMIT_PER_KEY", "5/s")]).open().to_api().rate_per_key, None);
    }

    #[test]
    fn not_every_page_may_do_everything() {
        let given = |pairs: &[(&str, &str)]| {
            let lookup =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Config::parse(lookup, &[]).map(|config| config.access.cors_origins)
        };
        let error = given(&[("AUTH", "off"), ("CORS_ORIGINS", "*")]).unwrap_err().to_string();
        assert!(error.contains("CORS_ORIGINS is `*`") && error.contains("AUTH is off"), "{error}");
        assert_eq!(given(&[("CORS_ORIGINS", "*")]).unwrap(), CorsOrigins::Any);
        given(&[("AUTH", "off"), ("CORS_ORIGINS", "https://shop.example")]).unwrap();
    }

    #[test]
    fn junk_is_refused_by_name() {
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
        let error = Config::parse(given, &[]).unwrap_err().to_string();
        for (name, value) in junk {
            assert!(error.contains(&format!("{name} is `{value}`")), "{name} in: {error}");
        }
    }
}
