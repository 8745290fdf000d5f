//! The customers' mailboxes, on a mail server that can be broken and repaired.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};

/// The pause before each byte of a slow mail server, which sends some two hundred bytes for a mail.
const SLOW_BYTE_PAUSE: Duration = Duration::from_millis(5);

/// The mail server of the demo.
pub(super) struct Mailbox(MailCatcher);

impl Mailbox {
    pub(super) async fn open() -> std::io::Result<Self> {
        MailCatcher::start().await.map(Self)
    }

    pub(super) fn url(&self) -> String {
        self.0.url()
    }

    /// From now on every mail is refused temporarily.
    pub(super) fn break_down(&self) {
        self.0.behave(Behaviour::TemporaryFailure(Stage::Recipient));
    }

    /// From now on every mail takes most of a second.
    pub(super) fn slow_down(&self) {
        self.0.behave(Behaviour::Trickle(SLOW_BYTE_PAUSE));
    }

    pub(super) fn repair(&self) {
        self.0.behave(Behaviour::Accept);
    }

    /// Waits until a worker connects to deliver a mail.
    pub(super) async fn until_connected(&self, timeout: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.0.connections() == 0 {
            anyhow::ensure!(started.elapsed() < timeout, "no mail came within {} s", timeout.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The mails that have arrived.
    pub(super) fn mails(&self) -> Mails {
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

/// The `Message-ID`s of the mails, by recipient and subject.
#[derive(Default)]
pub(super) struct Mails {
    by_recipient: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
    message_ids: BTreeSet<String>,
    received: usize,
}

impl Mails {
    /// How many different mails this customer received.
    pub(super) fn distinct(&self, recipient: &str) -> usize {
        let ids = self.by_recipient.get(recipient).into_iter().flat_map(BTreeMap::values).flatten();
        ids.collect::<BTreeSet<_>>().len()
    }

    /// Whether every mail that this customer received more than once had the same `Message-ID` each time.
    pub(super) fn is_stable(&self, recipient: &str) -> bool {
        let mut by_subject = self.by_recipient.get(recipient).into_iter().flat_map(BTreeMap::values);
        by_subject.all(|ids| ids.len() == 1 && !ids.contains(""))
    }

    /// How many mails arrived again.
    pub(super) fn repeated(&self) -> usize {
        self.received - self.message_ids.len()
    }
}
