//! The customers' mailboxes: a mail server that can be broken and repaired.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};

/// The pause before each byte of a slow mail server; it says some two hundred bytes for a mail.
const SLOWNESS: Duration = Duration::from_millis(5);

/// The mail server of the demo.
pub(super) struct Mailbox(MailCatcher);

impl Mailbox {
    pub(super) async fn open() -> std::io::Result<Self> {
        MailCatcher::start().await.map(Self)
    }

    pub(super) fn url(&self) -> String {
        self.0.url()
    }

    /// From here on every mail is refused for the time being.
    pub(super) fn break_down(&self) {
        self.0.behave(Behaviour::TemporaryFailure(Stage::Recipient));
    }

    /// From here on every mail takes most of a second.
    pub(super) fn slow_down(&self) {
        self.0.behave(Behaviour::Trickle(SLOWNESS));
    }

    pub(super) fn repair(&self) {
        self.0.behave(Behaviour::Accept);
    }

    /// Waits until somebody delivers.
    pub(super) async fn busy(&self, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.0.connections() == 0 {
            anyhow::ensure!(begun.elapsed() < patience, "no mail came within {} s", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// What has arrived.
    pub(super) fn inventory(&self) -> Mails {
        let mut mails = Mails::default();
        for message in self.0.messages() {
            let subject = message.header("Subject").unwrap_or_default();
            let message_id = message.message_id().unwrap_or_default();
            for recipient in &message.to {
                let own = mails.by_recipient.entry(recipient.clone()).or_default();
                own.entry(subject.clone()).or_default().insert(message_id.clone());
            }
            mails.received += 1;
            mails.message_ids.insert(message_id);
        }
        mails
    }
}

/// Mails by recipient and subject: the `Message-ID`s that each came under.
#[derive(Default)]
pub(super) struct Mails {
    by_recipient: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    message_ids: BTreeSet<String>,
    received: usize,
}

impl Mails {
    /// How many different mails this customer got.
    pub(super) fn distinct(&self, recipient: &str) -> usize {
        let ids = self.by_recipient.get(recipient).into_iter().flat_map(BTreeMap::values).flatten();
        ids.collect::<BTreeSet<_>>().len()
    }

    /// Whether whatever came to this customer more than once came under the same `Message-ID`.
    pub(super) fn is_stable(&self, recipient: &str) -> bool {
        let mut by_subject = self.by_recipient.get(recipient).into_iter().flat_map(BTreeMap::values);
        by_subject.all(|ids| ids.len() == 1 && !ids.contains(""))
    }

    /// How many mails came again.
    pub(super) fn repeated(&self) -> usize {
        self.received - self.message_ids.len()
    }
}
