//! Replies of mail servers as they are: in any encoding, without a text, of several lines, and late.

use std::time::Duration;

use breakers::{Breaker, BreakerSettings, BreakerState, Dependency};
use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use engine::Status;
use shop::{
    mail::{Mail, MailError, Mailer, SmtpStage},
    notifications::{self, DELIVER_NOTIFICATION, NotificationStatus},
    sagas::Settings,
};

use super::{QUICK, TestShop, a_notification};
use crate::support::{WAIT_TIMEOUT, a_mail};

/// "the user does not exist" in GBK.
const GBK: &[u8] = b"550 \xd3\xc3\xbb\xa7\xb2\xbb\xb4\xe6\xd4\xda";

/// A mailer that logs in, and its breaker.
fn mailer(catcher: &MailCatcher, failures: u32) -> (Mailer, Breaker) {
    let settings =
        BreakerSettings { failures, open_duration: Duration::from_hours(1), successes_to_close: 1 };
    let breaker = Breaker::new(Dependency::Smtp, settings);
    let url = format!("smtp://user:password@{}", catcher.address());
    (Mailer::smtp(&url, "shop@example.com").unwrap().with_breaker(breaker.clone()), breaker)
}

/// What became of a mail: `sent`, or what the error says of whom, and the code.
async fn sent_to(behaviour: Behaviour) -> String {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(behaviour);
    let answer = mailer(&catcher, 9).0.send(&a_mail()).await;
    let copies = catcher.messages().len();
    match answer {
        Ok(reply) => format!("sent ({}), {copies} copy", reply.code),
        Err(error) => {
            let code = error.reply().map_or(0, |(_, reply)| reply.code);
            format!("{} ({code}), {copies} copies", error.code())
        }
    }
}

#[tokio::test]
async fn a_positive_reply_is_taken_at_every_stage_whatever_its_text_is() {
    let replies: [(Stage, [&'static [u8]; 3]); 7] = [
        (Stage::Greeting, [b"220 correo n\xba 12", b"220", b"220-erste Zeile \xe4\r\n220-\r\n220 m\xfcller"]),
        (
            Stage::Hello,
            [
                b"250-m\xfcller\r\n250 AUTH PLAIN",
                b"250-\r\n250-AUTH PLAIN\r\n250",
                b"250-\xff\r\n250-8BITMIME\r\n250-AUTH PLAIN\r\n250 \xfe",
            ],
        ),
        (Stage::LogIn, [b"235 willkommen, M\xfcller", b"235", b"235-\xe4\r\n235 OK"]),
        (Stage::Sender, [b"250 n\xba 12", b"250", b"250-\xe4\r\n250 OK"]),
        (Stage::Recipient, [b"250 n\xba 12", b"251", b"250-\xe4\r\n250-\r\n250 OK"]),
        (Stage::DataCommand, [b"354 env\xede", b"354", b"354-\xe4\r\n354 OK"]),
        (Stage::Data, [b"250 aceptado con n\xba 12", b"250", b"250-\xe4\r\n250 OK"]),
    ];
    let mut wrong = Vec::new();
    for (stage, replies) in replies {
        for reply in replies {
            let outcome = sent_to(Behaviour::AnswerBytes(stage, reply)).await;
            if outcome != "sent (250), 1 copy" {
                wrong.push(format!("{stage:?} {}: {outcome}", reply.escape_ascii()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of 21:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_refusal_is_understood_at_every_stage_whatever_its_text_is() {
    let replies: [(Stage, &'static [u8], &str); 13] = [
        (Stage::Greeting, b"554 gesperrt f\xfcr Sie", "mail-server-takes-none (554)"),
        (Stage::Greeting, b"421", "mail-server-takes-none (421)"),
        (Stage::Hello, b"421 zu viele f\xfcr uns", "mail-server-takes-none (421)"),
        (Stage::LogIn, b"535 falsches Pa\xdfwort", "mail-server-takes-none (535)"),
        (Stage::Sender, b"550 Absender unbekannt f\xfcr uns", "mail-server-takes-none (550)"),
        (Stage::Recipient, GBK, "mail-refused (550)"),
        (Stage::Recipient, b"550 Empf\xe4nger unbekannt", "mail-refused (550)"),
        (Stage::Recipient, b"550", "mail-refused (550)"),
        (Stage::Recipient, b"550-5.1.1 Empf\xe4nger\r\n550 5.1.1 unbekannt", "mail-refused (550)"),
        (Stage::Recipient, b"450 sp\xe4ter", "mail-turned-away (450)"),
        (Stage::DataCommand, b"451 sp\xe4ter", "mail-turned-away (451)"),
        (Stage::Data, b"554 \xa7 12", "mail-refused (554)"),
        (Stage::Data, b"452", "mail-turned-away (452)"),
    ];
    let mut wrong = Vec::new();
    for (stage, reply, expected) in replies {
        let outcome = sent_to(Behaviour::AnswerBytes(stage, reply)).await;
        if outcome != format!("{expected}, 0 copies") {
            wrong.push(format!("{stage:?} {}: {outcome}", reply.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} of 13:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_mail_that_was_taken_or_refused_in_latin_1_is_not_sent_again() {
    for (stage, reply, status, copies, shown) in [
        (
            Stage::Data,
            &b"250 aceptado con n\xba 12"[..],
            Status::Completed,
            1,
            "250 aceptado con n\u{fffd} 12",
        ),
        (Stage::Data, b"250", Status::Completed, 1, "250 "),
        (Stage::Recipient, b"550 Empf\xe4nger unbekannt", Status::Dead, 0, "550 Empf\u{fffd}nger unbekannt"),
    ] {
        let catcher = MailCatcher::start().await.unwrap();
        catcher.behave(Behaviour::AnswerBytes(stage, reply));
        let settings = Settings { send_mail_retry: QUICK, ..Settings::new(mailer(&catcher, 99).0) };
        let test = TestShop::with(tempfile::tempdir().unwrap(), settings).await.start_workers();
        let engine = test.shop.engine();
        let saga = engine.start(DELIVER_NOTIFICATION.with(&a_notification())).await.unwrap().saga_id;
        let ending = engine.wait(saga, WAIT_TIMEOUT).await.unwrap().unwrap();
        let notification = notifications::get(engine, saga.0).await.unwrap().unwrap();
        assert_eq!(
            (ending.status, catcher.messages().len(), notification.attempts.len()),
            (status, copies, 1),
            "{shown}"
        );
        assert_eq!(notification.attempts[0].reply.as_deref(), Some(shown));
        assert_eq!(notification.status == NotificationStatus::Sent, status == Status::Completed);
        test.close().await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_ehlo_gets_helo() {
    for refusal in [&b"502 was ist das f\xfcr ein Befehl"[..], b"500", b"550 5.5.1 no"] {
        let catcher = MailCatcher::start().await.unwrap();
        catcher.behave(Behaviour::AnswerBytes(Stage::Hello, refusal));
        let mailer = Mailer::smtp(&catcher.url(), "shop@example.com").unwrap();
        mailer.send(&a_mail()).await.unwrap();
        assert_eq!(catcher.messages().len(), 1);
        let international = Mail { to: "jörg@example.com".into(), ..a_mail() };
        let error = mailer.send(&international).await.unwrap_err();
        assert!(matches!(error, MailError::Unsendable { .. }), "it offers no SMTPUTF8: {error:?}");
        catcher.behave(Behaviour::AnswerBytes(Stage::Hello, b"421 going down"));
        let error = mailer.send(&a_mail()).await.unwrap_err();
        assert!(matches!(error, MailError::ServerRejects { stage: SmtpStage::Connect, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_goodbye_on_a_kept_connection_is_a_closed_connection() {
    const AT_ONCE: usize = 10;
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::GoodbyeAfterMail);
    let (mailer, breaker) = mailer(&catcher, 1);
    for round in 1..=3 {
        let mail = a_mail();
        let sent = futures::future::join_all((0..AT_ONCE).map(|_| mailer.send(&mail))).await;
        let failed: Vec<_> = sent.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {AT_ONCE} in round {round}: {failed:?}", failed.len());
        assert_eq!(catcher.messages().len(), round * AT_ONCE);
    }
    assert_eq!((breaker.state(), breaker.view().failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn a_reply_that_answers_another_command_does_not_pass_for_success() {
    for (stage, reply) in [
        (Stage::Sender, "354 go ahead"),
        (Stage::Recipient, "221 bye"),
        (Stage::DataCommand, "250 OK"),
        (Stage::Data, "354 go ahead"),
    ] {
        let catcher = MailCatcher::start().await.unwrap();
        catcher.behave(Behaviour::Answer(stage, reply));
        let error = mailer(&catcher, 9).0.send(&a_mail()).await.unwrap_err();
        assert!(error.is_retryable() && !error.concerns_one_mail(), "{stage:?}: {error:?}");
        assert!(error.sentence().contains(&format!("out of turn: {reply}")), "{}", error.sentence());
    }
}

#[tokio::test]
async fn trouble_of_the_servers_system_is_not_the_recipients() {
    let catcher = MailCatcher::start().await.unwrap();
    for (stage, reply, concerns_one_mail) in [
        (Stage::Recipient, "451 4.3.0 temporary lookup failure", false),
        (Stage::Recipient, "452 4.3.1 insufficient system storage", false),
        (Stage::DataCommand, "451 4.3.2 not accepting messages", false),
        (Stage::Recipient, "450 4.2.1 greylisted", true),
        (Stage::Recipient, "451 try again", true),
        (Stage::Recipient, "451 4.30.1 no such status", true),
        // It may be this content that the server can't process.
        (Stage::Data, "451 4.3.0 the filter failed", true),
    ] {
        catcher.behave(Behaviour::Answer(stage, reply));
        let (mailer, breaker) = mailer(&catcher, 1);
        let error = mailer.send(&a_mail()).await.unwrap_err();
        assert!(error.is_retryable(), "{reply}");
        assert_eq!(error.concerns_one_mail(), concerns_one_mail, "{reply}: {error:?}");
        assert_eq!(breaker.state() == BreakerState::Closed, concerns_one_mail, "{reply}");
    }
}
