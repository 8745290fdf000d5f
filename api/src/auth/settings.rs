//! The settings of access: keys, rates, proxies and origins.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::{address::TrustedProxies, limiter::SharedLimiter, rate::Rate};

/// The settings of access. The default is closed: callers need keys, no proxy is trusted and no page of another origin
/// may call. Rates are not limited.
#[derive(Clone, Default)]
pub struct Access {
    /// Whether callers need keys.
    pub auth: Auth,
    /// Whether `/metrics` is public; otherwise it needs a key that may read.
    pub is_metrics_public: bool,
    /// How often each key may call.
    pub rate_per_key: Option<Rate>,
    /// How often each address may call without a valid key.
    pub rate_per_address: Option<Rate>,
    /// The rate limiter that all processes share; without one, each process counts for itself.
    pub shared_limiter: Option<Arc<dyn SharedLimiter>>,
    /// The proxies that may name the address they call for.
    pub trusted_proxies: TrustedProxies,
    /// The origins whose pages may call.
    pub cors_origins: CorsOrigins,
}

/// Whether callers need keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Every call needs a key.
    #[default]
    Keys,
    /// Everyone may do everything: for a private machine, or behind another service that authenticates.
    Off,
}

/// The origins whose pages may call from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Only our own.
    #[default]
    None,
    /// Every origin. Keys travel in a header that a page has to know, never in cookies, so this alone opens nothing as
    /// long as keys are needed; without them it would open everything.
    Any,
    /// These origins, compared byte by byte.
    These(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// Reads `*`, or a comma-separated list of origins such as `https://shop.example`.
    ///
    /// # Errors
    /// A sentence that names the part that is no origin.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        text.split(',').map(|part| origin(part.trim())).collect::<Result<_, _>>().map(Self::These)
    }
}

/// An origin as browsers send it: scheme, host and a port that is not the default, in lower case, with nothing after
/// it.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || format!("`{text}` is no origin such as https://shop.example or http://localhost:8080");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(wrong());
    };
    // A star would look like a pattern, which origins are not.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    if !host.chars().all(is_plain) {
        return Err(wrong());
    }
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let plain = format!("{scheme}://{}{}", host.to_ascii_lowercase(), if port == usual { "" } else { &port });
    if text != plain {
        return Err(wrong());
    }
    HeaderValue::from_str(text).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read() {
        assert_eq!(CorsOrigins::parse(" * "), Ok(CorsOrigins::Any));
        let these = CorsOrigins::parse("https://shop.example, http://localhost:8080,http://[::1]:9")
            .expect("origins");
        let CorsOrigins::These(these) = these else { panic!("{these:?}") };
        assert_eq!(these, ["https://shop.example", "http://localhost:8080", "http://[::1]:9"]);
    }

    #[test]
    fn malformed_origins_are_refused() {
        for wrong in [
            "",
            "shop.example",
            "https://shop.example/",
            "https://shop.example/x",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "ftp://shop.example",
            "https://*.example",
            "https://a@shop.example",
            "https://shop.example?x",
            "*,https://shop.example",
            "https://a.example,,https://b.example",
            "null",
        ] {
            CorsOrigins::parse(wrong).expect_err(wrong);
        }
    }
}
