//! Hides what is secret in a database URL, so that an error can show the rest.

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

/// Returns the URL with its password, fragment and unknown parameters replaced by `***`.
///
/// An invalid URL leaks nothing either: a password with unescaped `@`, `/`, `?` or `#` is hidden to its
/// last `@`, and a text without `scheme://` is hidden as a whole.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    if !is_scheme(scheme) {
        return HIDDEN.to_owned();
    }
    let (user_info, rest) = split_user_info(rest);
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, _)) => (rest, "#***"),
        None => (rest, ""),
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, format!("?{}", redact_query(query))),
        None => (rest, String::new()),
    };
    format!("{scheme}://{user_info}{}{query}{fragment}", redact_place(place))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Splits `user:password@` off, already hidden, and returns the rest.
///
/// An `@` beyond the authority means that the password holds a character which should have been escaped,
/// unless the authority has its own `@` and the later one stands in the query.
fn split_user_info(rest: &str) -> (String, &str) {
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let query = rest.find('?').unwrap_or(rest.len());
    let last_at = match rest[..authority_end].rfind('@') {
        Some(at) if !rest[authority_end..query].contains('@') && !has_at_in_harmful(&rest[query..]) => {
            Some(at)
        }
        _ => rest.rfind('@'),
    };
    let Some(at) = last_at else {
        return (String::new(), rest);
    };
    let user_info = match rest[..at].split_once(':') {
        Some((user, _)) => format!("{user}:{HIDDEN}@"),
        None => format!("{}@", &rest[..at]),
    };
    (user_info, &rest[at + 1..])
}

/// Says whether an `@` stands in a part of the query that isn't a proper `key=value`.
fn has_at_in_harmful(query: &str) -> bool {
    query.trim_start_matches('?').split('&').any(|pair| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        key.contains('@') || (pair.contains('@') && !pair.contains('='))
    })
}

/// Hides a "port" that is none: it is a password whose `@host` was forgotten.
fn redact_place(place: &str) -> String {
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].split_once(':') {
        Some((host, port)) if !port.chars().all(|c| c.is_ascii_digit()) => {
            format!("{}{host}:{HIDDEN}{path}", &authority[..after_brackets])
        }
        _ => place.to_owned(),
    }
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
    use super::redact;

    #[test]
    fn hides_the_password_and_shows_the_rest() {
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
