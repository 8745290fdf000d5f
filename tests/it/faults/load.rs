//! Customers who place orders continuously while a fault is injected.

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::test_cluster::ApiClient;

use crate::support::WAIT_TIMEOUT;

/// The number of concurrent customers; each places one order after the other.
const CUSTOMERS: usize = 16;

/// Orders in progress.
pub(super) struct Load {
    acknowledged: watch::Receiver<Vec<Uuid>>,
    customers: JoinSet<()>,
}

impl Load {
    /// Starts placing this many orders of one unit.
    pub(super) fn start(client: &ApiClient, sku: &'static str, orders: usize) -> Self {
        let (sender, acknowledged) = watch::channel(Vec::new());
        let mut customers = JoinSet::new();
        for customer in 0..CUSTOMERS {
            let (client, sender) = (client.clone(), sender.clone());
            let mine = (customer..orders).step_by(CUSTOMERS);
            customers.spawn(async move {
                for number in mine {
                    let order_id = client.place(&format!("customer-{number}@example.com"), sku, 1).await;
                    sender.send_modify(|ids| ids.push(order_id));
                }
            });
        }
        Self { acknowledged, customers }
    }

    /// Waits until this many orders are acknowledged.
    pub(super) async fn reaches(&mut self, orders: usize) {
        let reached = self.acknowledged.wait_for(|ids| ids.len() >= orders);
        let reached = tokio::time::timeout(WAIT_TIMEOUT, reached).await;
        reached.expect("orders are acknowledged").expect("customers continue");
    }

    /// The number of acknowledged orders.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.borrow().len()
    }

    /// Waits for the last order, and returns all that were acknowledged.
    pub(super) async fn all(mut self) -> Vec<Uuid> {
        while let Some(customer) = self.customers.join_next().await {
            customer.unwrap();
        }
        self.acknowledged.borrow().clone()
    }
}
