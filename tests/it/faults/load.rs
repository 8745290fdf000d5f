//! Customers who go on ordering while something breaks.

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::test_cluster::ApiClient;

use crate::support::WAIT_TIMEOUT;

/// How many customers order at once, each one order after the other.
const CUSTOMERS: usize = 16;

/// Orders under way.
pub(super) struct Load {
    acknowledged: watch::Receiver<Vec<Uuid>>,
    customers: JoinSet<()>,
}

impl Load {
    /// Has so many orders of one unit placed.
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

    /// Waits until so many orders are acknowledged.
    pub(super) async fn reaches(&mut self, orders: usize) {
        let reached = self.acknowledged.wait_for(|ids| ids.len() >= orders);
        let reached = tokio::time::timeout(WAIT_TIMEOUT, reached).await;
        reached.expect("orders are acknowledged").expect("customers go on");
    }

    /// How many orders are acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.borrow().len()
    }

    /// Waits for the last order, and gives all that were acknowledged.
    pub(super) async fn all(mut self) -> Vec<Uuid> {
        while let Some(customer) = self.customers.join_next().await {
            customer.unwrap();
        }
        self.acknowledged.borrow().clone()
    }
}
