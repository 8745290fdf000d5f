//! Parses mail addresses, and writes them for mail servers.

use lettre::{Address, message::Mailbox};
use url::Host;

use super::characters::turns_direction;

/// RFC 5321, 4.5.3.1.3: a path has at most 256 octets with its brackets.
pub(crate) const MAX_ADDRESS_BYTES: usize = 254;

/// Whether it is a bare mail address that the mailer will take.
pub(crate) fn is_email(text: &str) -> bool {
    bare_address(text).is_some()
}

/// Parses a bare address that mail can be sent to. Addresses with a name, a quoted local part or a host in brackets are
/// refused.
pub(crate) fn bare_address(text: &str) -> Option<Address> {
    if text.contains(turns_direction) {
        return None;
    }
    let address = with_ascii_domain(dot_atoms(text).or_else(|| stray_dots(text))?)?;
    (text.len() <= MAX_ADDRESS_BYTES && (address.as_ref() as &str).len() <= MAX_ADDRESS_BYTES)
        .then_some(address)
}

fn dot_atoms(text: &str) -> Option<Address> {
    let Mailbox { name: None, email } = text.parse().ok()? else { return None };
    (email.as_ref() as &str == text).then_some(email)
}

/// Parses `a..b@example.com` and `a.@example.com`. NTT docomo gave out such addresses until 2009, and they are still in use
/// (<https://www.docomo.ne.jp/service/docomo_mail/rfc_add/>). RFC 5321 knows them only with quotes (section 4.1.2), which
/// change nothing about who receives the mail.
fn stray_dots(text: &str) -> Option<Address> {
    let (user, domain) = text.rsplit_once('@')?;
    let is_atom = |atom: &str| atom.is_empty() || dot_atoms(&format!("{atom}@{domain}")).is_some();
    if !user.is_ascii() || user.starts_with('.') || !user.split('.').all(is_atom) {
        return None;
    }
    Address::new(format!("\"{user}\""), domain).ok()
}

/// Writes the domain in ASCII (RFC 5891), which every mail server understands; the local part stays as it is.
pub(crate) fn with_ascii_domain(address: Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return Some(address);
    }
    let Ok(Host::Domain(domain)) = Host::parse(address.domain()) else { return None };
    Address::new(address.user(), domain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_written_in_ascii() {
        let written = |text: &str| bare_address(text).map(|address| address.to_string());
        assert_eq!(written("info@bücher.de").as_deref(), Some("info@xn--bcher-kva.de"));
        assert_eq!(written("jörg@bücher.de").as_deref(), Some("jörg@xn--bcher-kva.de"));
        assert_eq!(written("a+b@example.com").as_deref(), Some("a+b@example.com"));
    }

    #[test]
    fn stray_dots_are_quoted_for_mail_servers() {
        let written = |text: &str| bare_address(text).map(|address| address.to_string());
        assert_eq!(written("a..b@docomo.ne.jp").as_deref(), Some("\"a..b\"@docomo.ne.jp"));
        assert_eq!(written("a.b.@docomo.ne.jp").as_deref(), Some("\"a.b.\"@docomo.ne.jp"));
        assert_eq!(written("a...@bücher.de").as_deref(), Some("\"a...\"@xn--bcher-kva.de"));
        for wrong in [
            ".a@docomo.ne.jp",
            "..@docomo.ne.jp",
            "a..b c@docomo.ne.jp",
            "a..\"b@docomo.ne.jp",
            "a..@b@docomo.ne.jp",
            "a..b@docomo..ne.jp",
            "a..b@[192.0.2.1]",
            "a..b\r\n@docomo.ne.jp",
            "a\u{202e}b@example.com",
        ] {
            assert_eq!(written(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_that_mail_can_not_be_sent_to_are_refused() {
        for wrong in [
            "\"john doe\"@example.com",
            "a@[192.0.2.1]",
            "Ann <ann@example.com>",
            "<ann@example.com>",
            "a@b c.example",
            "",
            &format!("a@{}.de", "ü".repeat(60)),
            &format!("{}@example.com", "a".repeat(250)),
        ] {
            assert_eq!(bare_address(wrong), None, "{wrong}");
        }
    }
}
