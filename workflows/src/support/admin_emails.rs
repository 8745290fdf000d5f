//! The addresses of those who run the shop.

use std::{str::FromStr, sync::Arc};

use super::email::is_email;

/// The most addresses: each is a mail that is stored while rows of stock are locked.
const MAX_ADMIN_EMAILS: usize = 20;

/// The addresses of those who run the shop; nobody by default. Every one is an address that the mailer takes, so that
/// telling them can't fail what it tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminEmails(Arc<[String]>);

impl AdminEmails {
    /// The addresses.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for AdminEmails {
    type Err = String;

    /// Reads up to 20 addresses that are separated by commas.
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
    fn twenty_addresses_are_taken_and_no_more() {
        let addresses = |count| vec!["a@example.com"; count].join(",").parse::<AdminEmails>();
        assert_eq!(addresses(20).unwrap().0.len(), 20);
        assert!(addresses(21).is_err());
    }
}
