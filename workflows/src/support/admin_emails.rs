//! The mail addresses of the administrators.

use std::{str::FromStr, sync::Arc};

use super::email::is_email;

/// The most addresses. Each of them is a mail that is stored while rows of stock are locked.
const MAX_ADMIN_EMAILS: usize = 20;

/// The mail addresses of the administrators; none by default. Each is an address that the mailer accepts, so that an
/// alert can't fail the transaction that causes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminEmails(Arc<[String]>);

impl AdminEmails {
    /// The mail addresses of the administrators.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for AdminEmails {
    type Err = String;

    /// Parses up to 20 addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
        let count = addresses.clone().count();
        if count > MAX_ADMIN_EMAILS {
            return Err(format!("there are {count} addresses, and {MAX_ADMIN_EMAILS} at most"));
        }
        let read = |address: &str| {
            if is_email(address) {
                Ok(address.to_owned())
            } else {
                Err(format!("`{address}` is no e-mail address"))
            }
        };
        addresses.map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_one_by_one_and_a_wrong_one_is_named() {
        let read: AdminEmails = " a@example.com, ,b@example.com,".parse().unwrap();
        assert_eq!(*read.0, ["a@example.com", "b@example.com"]);
        for wrong in ["a@example.com, boss", "Boss <a@example.com>", "a@example.com\r\nBcc: b@example.com"] {
            assert!(wrong.parse::<AdminEmails>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn at_most_twenty_addresses_are_accepted() {
        let addresses = |count| vec!["a@example.com"; count].join(",").parse::<AdminEmails>();
        assert_eq!(addresses(20).unwrap().0.len(), 20);
        assert!(addresses(21).is_err());
    }
}
