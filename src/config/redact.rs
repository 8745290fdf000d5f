//! Redacts the secrets in a URL, so that an error can show the rest.

use url::Url;

/// Query parameters whose values are harmless; every other value is hidden.
const HARMLESS: [&str; 9] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "port",
    "sslmode",
    "ssl-mode",
    "user",
];

const HIDDEN: &str = "***";

/// Replaces the URL's password, fragment and unknown parameters by `***`.
///
/// A text that is not a URL, or whose password probably contains an unescaped character, is replaced as a whole.
pub(crate) fn redact(text: &str) -> String {
    let parsed = Url::parse(text).ok().filter(Url::has_authority);
    // An `@` in the path means that the password contains a `/`.
    let Some(mut url) = parsed.filter(|url| !url.path().contains('@')) else {
        return HIDDEN.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return HIDDEN.to_owned();
    }
    let query = url.query().map(redact_query);
    url.set_query(query.as_deref());
    if url.fragment().is_some() {
        url.set_fragment(Some(HIDDEN));
    }
    url.into()
}

fn redact_query(query: &str) -> String {
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, _)) if HARMLESS.contains(&key) => pair.to_owned(),
            Some((key, _)) => format!("{key}={HIDDEN}"),
            None if pair.is_empty() => String::new(),
            None => HIDDEN.to_owned(),
        })
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_the_password_and_shows_the_rest() {
        for (given, shown) in [
            ("postgres://ann:secret@db:5432/shop", "postgres://ann:***@db:5432/shop"),
            ("postgres://:secret@db/shop", "postgres://:***@db/shop"),
            ("postgres://ann@db/shop", "postgres://ann@db/shop"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("postgres://[::1]:5432/shop", "postgres://[::1]:5432/shop"),
            ("postgres:///shop?host=/run/pg&user=ann", "postgres:///shop?host=/run/pg&user=ann"),
            ("postgres:///shop?password=secret&port=1", "postgres:///shop?password=***&port=1"),
            (
                "postgres://ann:x@db/shop?application_name=a@b",
                "postgres://ann:***@db/shop?application_name=a@b",
            ),
            ("postgres://ann:x@db/shop#secret", "postgres://ann:***@db/shop#***"),
        ] {
            assert_eq!(redact(given), shown, "{given}");
        }
    }

    #[test]
    fn leaks_no_part_of_a_password_from_an_invalid_url() {
        for given in [
            "postgres://ann:sec@ret@db/shop",
            "postgres://ann:sec/ret@db/shop",
            "postgres://ann:sec?ret@db/shop",
            "postgres://ann:sec#ret@db/shop",
            "postgres://ann:sec@r/ret@db/shop",
            "postgres://ann:sec@r?ret@db/shop",
            "postgres://ann:secret",
            "postgres://ann:secret/shop",
            "postgres:ann:secret@db/shop",
            "host=db password=secret",
            "ann:secret@db://x",
            "postgres:///shop?pass%77ord=secret&secret",
        ] {
            let shown = redact(given);
            assert!(!shown.contains("sec") && !shown.contains("ret"), "{given} became {shown}");
        }
    }
}
