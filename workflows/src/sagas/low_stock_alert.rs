//! Alerts administrators of products with low stock.

use engine::NewSaga;

use crate::{
    inventory::LowStock, mail_templates, notifications::DELIVER_NOTIFICATION,
    support::admin_emails::AdminEmails,
};

/// The sagas that mail the administrators, one for each address, to be started in the transaction that made the stock
/// low. Their number does not depend on the number of products.
pub(crate) fn low_stock_alerts(admins: &AdminEmails, low: &[LowStock]) -> Vec<NewSaga> {
    if low.is_empty() {
        return Vec::new();
    }
    admins.iter().map(|to| DELIVER_NOTIFICATION.with(&mail_templates::low_stock(to, low))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gets_one_mail_with_all_low_products() {
        let admins: AdminEmails = "a@example.com,b@example.com".parse().unwrap();
        let low = vec![LowStock { sku: "TEA-1".into(), available: 1, threshold: 2 }; 1000];
        assert_eq!(low_stock_alerts(&admins, &low).len(), 2);
        assert!(low_stock_alerts(&admins, &[]).is_empty());
        assert!(low_stock_alerts(&AdminEmails::default(), &low).is_empty());
    }
}
