//! Tells whoever runs the shop what needs a person.

use std::{str::FromStr, sync::Arc};

use engine::NewSaga;

use crate::{
    inventory::LowStock, letters, sagas::deliver_notification::DELIVER_NOTIFICATION, violation::is_email,
};

/// The addresses of those who run the shop; nobody by default. Every one is an address that the mailer takes, so that
/// telling them can't fail what it tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminEmails(Arc<[String]>);

impl AdminEmails {
    /// One mail a product and address, to be started in the transaction that made the stock low.
    pub(crate) fn low_stock(&self, low: &[LowStock]) -> Vec<NewSaga> {
        let mails = low.iter().flat_map(|low| self.0.iter().map(move |to| letters::low_stock(to, low)));
        mails.map(|mail| DELIVER_NOTIFICATION.with(&mail)).collect()
    }
}

impl FromStr for AdminEmails {
    type Err = String;

    /// Reads addresses that are separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
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
    fn every_address_gets_a_mail_of_its_own_for_every_product() {
        let admins: AdminEmails = "a@example.com,b@example.com".parse().unwrap();
        let low = LowStock { sku: "TEA-1".into(), available: 1, threshold: 2 };
        assert_eq!(admins.low_stock(&[low.clone(), low]).len(), 4);
        assert!(AdminEmails::default().low_stock(&[]).is_empty());
    }
}
