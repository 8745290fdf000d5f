//! Tests of the fixtures on which the other tests rely.

use std::os::unix::process::ExitStatusExt;

use redis_ping::ping;
use sqlx::Executor;
use tokio::process::Command;

use crate::support::{Database, Process, RedisServer};

#[tokio::test]
async fn every_test_has_its_own_migrated_database() {
    let first = Database::fresh().await;
    let second = Database::fresh().await;
    assert_ne!(first.url(), second.url());
    let pool = first.pool().await;
    pool.execute("create table mine (id bigint)").await.unwrap();
    let there: bool = sqlx::query_scalar("select to_regclass('mine') is not null")
        .fetch_one(&second.pool().await)
        .await
        .unwrap();
    assert!(!there);
}

#[tokio::test]
async fn what_processes_of_tests_use_owns_nothing() {
    let database = Database::fresh().await;
    let pool = database.pool().await;
    let owned: i64 = sqlx::query_scalar(
        "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('engine', 'shop') and pg_has_role(c.relowner, 'usage')",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(owned, 0);
}

#[tokio::test]
async fn a_durable_database_commits_synchronously() {
    let show = "select current_setting('synchronous_commit')";
    let database = Database::durable().await;
    let setting: String = sqlx::query_scalar(show).fetch_one(&database.pool().await).await.unwrap();
    assert_eq!(setting, "on");
}

#[tokio::test]
async fn a_killed_redis_restarts_empty_on_the_same_port() {
    let mut redis = RedisServer::start().await.unwrap();
    let other = RedisServer::start().await.unwrap();
    let url = redis.url();
    assert_ne!(url, other.url());
    ping(&url).await.unwrap();

    redis.kill();
    ping(&url).await.unwrap_err();
    redis.restart().await.unwrap();
    assert_eq!(redis.url(), url);
    ping(&url).await.unwrap();
    drop(redis);
    ping(&url).await.unwrap_err();
    ping(&other.url()).await.unwrap();
}

/// A process that prints the signals that it gets, and a line twice a moment.
fn chatty() -> Process {
    let script = "trap 'echo terminated; exit 3' TERM; trap 'echo interrupted' INT; echo started; \
                  while :; do sleep 0.02; echo on >&2; done";
    // A shell can't trap a signal that was ignored when it was started, as shells do for their background jobs.
    let mut command = Command::new("perl");
    command.args(["-e", "$SIG{INT} = 'DEFAULT'; exec @ARGV", "sh", "-c", script]);
    Process::start(command)
}

#[tokio::test]
async fn the_output_of_a_process_is_read_and_it_gets_signals() {
    let mut process = chatty();
    assert_eq!(process.wait_for_line("start").await, "started");
    process.sigint();
    process.wait_for_line("interrupted").await;
    process.sigterm();
    assert_eq!(process.wait().await.code(), Some(3));
    assert!(process.output().contains("terminated"), "{}", process.output());
}

#[tokio::test]
async fn a_stopped_process_does_nothing_until_it_is_continued() {
    let process = chatty();
    process.wait_for_line("on").await;
    process.sigstop().await;
    process.sigterm();
    assert!(!process.output().contains("terminated"));
    process.sigcont();
    process.wait_for_line("terminated").await;
}

#[tokio::test]
async fn a_killed_process_is_gone() {
    let mut process = chatty();
    process.wait_for_line("started").await;
    let pid = nix::unistd::Pid::from_raw(process.pid());
    process.kill9().await;
    assert_eq!(nix::sys::signal::kill(pid, None), Err(nix::errno::Errno::ESRCH));
    assert_eq!(process.wait().await.signal(), Some(9));
}

#[tokio::test]
async fn the_program_itself_is_started() {
    let mut process = Process::sagaline(&["--version"], &[]);
    assert!(process.wait().await.success());
    assert!(process.output().starts_with("sagaline "), "{}", process.output());
}

mod redis_ping {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    pub(super) async fn ping(url: &str) -> std::io::Result<()> {
        let address = url.strip_prefix("redis://").expect("a Redis URL");
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"+PONG\r\n");
        Ok(())
    }
}
