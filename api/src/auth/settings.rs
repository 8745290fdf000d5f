//! What the operator of a server chooses about access.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::{address::TrustedProxies, limiter::SharedLimiter, rate::Rate};

/// What the operator of a server chooses about access. The default is closed: keys are asked for, no proxy is trusted,
/// no foreign page may call; calls are not counted.
#[derive(Clone, Default)]
pub struct Access {
    /// Whether callers need keys.
    pub auth: Auth,
    /// Whether `/metrics` answers everybody; else it needs a key that may read.
    pub is_metrics_public: bool,
    /// How often each key may call.
    pub rate_per_key: Option<Rate>,
    /// How often each address may call without a key, or with a wrong one.
    pub rate_per_address: Option<Rate>,
    /// Counts for all processes together; without one, each process counts for itself.
    pub shared_limiter: Option<Arc<dyn SharedLimiter>>,
    /// Who may say for whom they call.
    pub trusted_proxies: TrustedProxies,
    /// Whose pages may call.
    pub cors_origins: CorsOrigins,
}

/// Whether callers need keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// They do.
    #[default]
    Keys,
    /// Everybody may do everything: for a private machine, or behind something else that asks.
    Off,
}

/// Whose pages may call from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Nobody's but our own.
    #[default]
    None,
    /// Everybody's. Keys travel in a header that a page has to know, never in cookies, so this opens nothing by itself where
    /// keys are asked for; without them it would open everything.
    Any,
    /// Those of these origins, compared letter by letter.
    These(Vec<HeaderValue>),
}

impl CorsOrigins {
    /// Reads `*`, or origins such as `https://shop.example` with commas between.
    ///
    /// # Errors
    /// A sentence about what is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        text.split(',').map(|part| origin(part.trim())).collect::<Result<_, _>>().map(Self::These)
    }
}

/// An origin as browsers send it: scheme, host, port if it is not the usual one, in lower case, and nothing behind.
fn origin(text: &str) -> Result<HeaderValue, String> {
    let wrong = || format!("`{text}` is no origin such as https://shop.example or http://localhost:8080");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(wrong());
    };
    // A star would look like a pattern, and would be none.
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
    fn what_a_browser_would_never_send_is_refused() {
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
