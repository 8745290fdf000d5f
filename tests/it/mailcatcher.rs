//! The mail catcher, tested with the client that the shop uses.

use std::time::Duration;

use devkit::mail_catcher::{Behaviour, MailCatcher, Stage};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::response::Response;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

fn transport(catcher: &MailCatcher) -> Transport {
    Transport::builder_dangerous("127.0.0.1").port(catcher.address().port()).build()
}

async fn send(transport: &Transport) -> Result<Response, Error> {
    let mailbox = |address: &str| address.parse::<Mailbox>().unwrap();
    let message = Message::builder()
        .message_id(Some("<step-1@sagaline>".to_owned()))
        .from(mailbox("Shop <shop@example.com>"))
        .to(mailbox("ann@example.com"))
        .cc(mailbox("bob@example.com"))
        .subject("Your order")
        .body("Hello.\r\n.a line with a dot\r\n..two".to_owned())
        .unwrap();
    transport.send(message).await
}

#[tokio::test]
async fn a_message_is_kept_as_it_was_sent() {
    let catcher = MailCatcher::start().await.unwrap();
    let transport = transport(&catcher);
    send(&transport).await.unwrap();
    send(&transport).await.unwrap();
    let messages = catcher.wait_for(2).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].from, "shop@example.com");
    assert_eq!(messages[0].to, ["ann@example.com", "bob@example.com"]);
    assert_eq!(messages[0].message_id().as_deref(), Some("<step-1@sagaline>"));
    assert_eq!(messages[0].header("Subject").as_deref(), Some("Your order"));
    // lettre ends the last line itself.
    assert_eq!(messages[0].body(), "Hello.\r\n.a line with a dot\r\n..two\r\n");
    catcher.clear();
    assert!(catcher.messages().is_empty());
}

#[tokio::test]
async fn each_fault_reaches_the_client_as_the_matching_error() {
    let catcher = MailCatcher::start().await.unwrap();
    let transport = transport(&catcher);
    for stage in [Stage::Recipient, Stage::Data] {
        catcher.behave(Behaviour::TemporaryFailure(stage));
        assert!(send(&transport).await.unwrap_err().is_transient());
        catcher.behave(Behaviour::PermanentFailure(stage));
        assert!(send(&transport).await.unwrap_err().is_permanent());
    }
    assert!(catcher.messages().is_empty());
    catcher.behave(Behaviour::Accept);
    send(&transport).await.unwrap();
    assert_eq!(catcher.messages().len(), 1);
}

#[tokio::test]
async fn a_server_that_never_greets_leaves_the_client_waiting() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::NeverGreet);
    // lettre's time-out covers only connecting, so the sender adds its own.
    let transport = transport(&catcher);
    let mut sent = std::pin::pin!(send(&transport));
    while catcher.connections() == 0 {
        tokio::time::timeout(Duration::from_millis(20), &mut sent).await.unwrap_err();
    }
    tokio::time::timeout(Duration::from_millis(300), &mut sent).await.unwrap_err();
    assert_eq!(catcher.connections(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_closes_the_connection() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::Refuse);
    send(&transport(&catcher)).await.unwrap_err();
    assert!(catcher.messages().is_empty());
}

#[tokio::test]
async fn a_server_that_drops_after_the_data_has_kept_the_message() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::DropAfterData);
    send(&transport(&catcher)).await.unwrap_err();
    assert_eq!(catcher.messages().len(), 1);
}

#[tokio::test]
async fn a_server_that_trickles_accepts_the_message_eventually() {
    let catcher = MailCatcher::start().await.unwrap();
    catcher.behave(Behaviour::Trickle(Duration::from_millis(1)));
    send(&transport(&catcher)).await.unwrap();
    assert_eq!(catcher.messages().len(), 1);
}

#[tokio::test]
async fn a_change_of_behaviour_reaches_pooled_connections_and_waiting_ones() {
    let catcher = MailCatcher::start().await.unwrap();
    let transport = transport(&catcher);
    send(&transport).await.unwrap();
    catcher.behave(Behaviour::PermanentFailure(Stage::Data));
    assert!(send(&transport).await.unwrap_err().is_permanent());
}

#[tokio::test]
async fn commands_out_of_order_and_too_long_lines_are_refused_without_closing_the_connection() {
    let catcher = MailCatcher::start().await.unwrap();
    let mut stream = TcpStream::connect(catcher.address()).await.unwrap();
    let long = "x".repeat(5000);
    let script = format!(
        "MAIL FROM:<a@b>\r\nEHLO x\r\nDATA\r\nMAIL FROM:<a@b> SIZE=99999999\r\nMAIL FROM:<>\r\nRCPT a@b\r\n\
         {long}\r\nRSET\r\nNOOP\r\nWHAT\r\nQUIT\r\n"
    );
    stream.write_all(script.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let codes: Vec<&str> =
        answers.lines().filter(|line| line.as_bytes()[3] == b' ').map(|line| &line[..3]).collect();
    assert_eq!(codes, ["220", "503", "250", "503", "552", "250", "501", "500", "250", "250", "502", "221"]);
}
