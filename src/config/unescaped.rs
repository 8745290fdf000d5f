//! Recognises a URL whose user name or password holds a character that has to be escaped. Such a URL often still parses,
//! with a part of the password as its host.

use url::Url;

/// The URL does not mean what it was meant to. The message shows no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it seems that its user name or password has a character that has to be escaped: write `@` as %40, `:` as %3A, \
     `/` as %2F, `?` as %3F, `#` as %23 and `%` as %25"
)]
pub(crate) struct Unescaped;

/// Refuses a URL that has a `#`, or an `@` behind its host, or that can't be parsed. A text that is no URL is accepted.
///
/// # Errors
/// [`Unescaped`].
pub(crate) fn refuse_unescaped(text: &str) -> Result<(), Unescaped> {
    let Some((_, rest)) = text.split_once("://") else { return Ok(()) };
    // A client of Redis understands this fragment.
    let rest = rest.strip_suffix("#insecure").unwrap_or(rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
    // An `@` belongs into the value of a parameter only. A password with a `?` looks like parameters without a path.
    let no_value = |pair: &str| pair.contains('@') && !pair.contains('=');
    let no_parameters =
        !authority.is_empty() && path.is_empty() && query.contains('@') && query.contains('/');
    let means_another =
        rest.contains('#') || path.contains('@') || query.split('&').any(no_value) || no_parameters;
    if means_another || Url::parse(text).is_err() { Err(Unescaped) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unescaped_character_is_recognised_wherever_the_parser_takes_it_to_belong() {
        for url in [
            "postgres://user:p@ss/w#rd@host/db",
            "postgres://user:pass#word@host/db",
            "postgres://user:pass/word@host/db",
            "postgres://user:12/34@host/db",
            "postgres://user:pass?word@host/db",
            "postgres://user:12?34@host/db",
            "postgres://user:12?3=4@host/db",
            "redis://:pa/ss@host:6379/0",
            "amqp://user:pa#ss@host/vhost",
            "smtp://user@example.com:pa/ss@host:587",
        ] {
            assert_eq!(refuse_unescaped(url), Err(Unescaped), "{url}");
        }
    }

    #[test]
    fn urls_that_mean_what_they_say_are_accepted() {
        for url in [
            "postgres://user:p%40ss%2Fw%23rd@host/db",
            "postgres://user:p@ss@host/db",
            "postgres://user@host:5432/db?application_name=a@b",
            "postgres:///shop?host=/run/pg&user=ann@example",
            "postgres://host",
            "postgres://[::1]:5432/db?sslrootcert=/etc/ssl/ca.pem",
            "rediss://:secret@host:6379/0#insecure",
            "amqp://guest:guest@host:5672/%2F",
            "smtp://user%40example.com:secret@host:587",
            "not a URL",
        ] {
            assert_eq!(refuse_unescaped(url), Ok(()), "{url}");
        }
    }
}
