//! A connection pooler between the processes and PostgreSQL: one that keeps sessions works, another is refused.

use devkit::pgbouncer::PgBouncer;
use sqlx::{Executor, PgPool, postgres::PgListener};

use super::test_cluster::{TestCluster, at_least, stops_cleanly};
use crate::support::{Process, TempState, WAIT_TIMEOUT};

/// What docs/operations.md says that PgBouncer needs, and room for all connections of a test.
const SESSIONS: [(&str, &str); 4] = [
    ("pool_mode", "session"),
    ("ignore_startup_parameters", "extra_float_digits,options"),
    ("max_client_conn", "200"),
    ("default_pool_size", "80"),
];

/// The commands that use a given database.
const COMMANDS: [&[&str]; 7] =
    [&["migrate"], &["serve"], &["work"], &["doctor"], &["dev"], &["keys", "list"], &["events", "consumers"]];

async fn run(args: &[&str], url: &str) -> (Option<i32>, String) {
    let env = [("DATABASE_URL", url), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0"), ("WORK_PORT", "0")];
    let mut process = Process::sagaline(args, &env);
    let status = process.wait().await;
    (status.code(), process.output())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_through_a_pooler_that_keeps_sessions() {
    let state = TempState::new();
    let cluster = state.start().await;
    let mut test = TestCluster::on(TempState::migrated(&cluster, "shop").await).await;
    let pooler = PgBouncer::start(&cluster, &SESSIONS).await.unwrap();
    let (code, output) = run(&["migrate"], &pooler.url("shop")).await;
    assert_eq!(code, Some(0), "{output}");
    test.set("DATABASE_URL", &pooler.process_url("shop"));
    let (served, worker) = (test.serve().await, test.work().await);
    for process in [&served.process, &worker] {
        let line = process.wait_for_line("a pooler drops what connections ask for").await;
        assert!(line.contains("lock_timeout") && line.contains("ignore_startup_parameters"), "{line}");
    }
    served.client.add_product("TEA-1", 100).await;
    let kept = served.client.place("ann@example.com", "TEA-1", 1).await;
    let cancelled = served.client.place("bob@example.com", "TEA-1", 1).await;
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.order(kept).await.0, "confirmed");
    served.client.cancel(&format!("/api/orders/{cancelled}")).await;
    test.wait_until_no_saga_is_active().await;
    assert_eq!(test.order(cancelled).await.0, "cancelled");

    // The worker listens through the pooler, and what is told arrives there.
    at_least("a listener", 1, || {
        test.count("select count(*) from pg_stat_activity where query = 'LISTEN \"engine_due\"'")
    })
    .await;
    let through = PgPool::connect(&pooler.process_url("shop")).await.unwrap();
    let mut listener = PgListener::connect_with(&through).await.unwrap();
    listener.listen("trial").await.unwrap();
    test.pool.execute("notify trial, 'heard'").await.unwrap();
    let heard = tokio::time::timeout(WAIT_TIMEOUT, listener.recv()).await.expect("it arrives").unwrap();
    assert_eq!(heard.payload(), "heard");
    drop(listener);
    through.close().await;

    test.assert_all_well().await;
    stops_cleanly(worker).await;
    stops_cleanly(served.process).await;
    test.pool.close().await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_or_refuses_settings_is_refused_with_what_to_set() {
    let state = TempState::new();
    let cluster = state.start().await;
    TempState::migrated(&cluster, "shop").await;
    let transactions =
        [("pool_mode", "transaction"), ("ignore_startup_parameters", "extra_float_digits,options")];
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&transactions, "Set `pool_mode = session`"),
        (&[("pool_mode", "session")], "Set `ignore_startup_parameters = extra_float_digits,options`"),
        (
            &[("pool_mode", "session"), ("ignore_startup_parameters", "extra_float_digits")],
            "Set `ignore_startup_parameters = extra_float_digits,options`",
        ),
    ];
    for (settings, advice) in cases {
        let pooler = PgBouncer::start(&cluster, settings).await.unwrap();
        for args in COMMANDS {
            let (code, output) = run(args, &pooler.url("shop")).await;
            assert_eq!(code, Some(2), "{args:?}: {output}");
            assert!(output.contains(advice), "{args:?} does not say `{advice}`: {output}");
        }
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_pooler_that_leaves_statements_in_sessions_is_named_and_does_no_harm() {
    let state = TempState::new();
    let cluster = state.start().await;
    TempState::migrated(&cluster, "shop").await;
    let mut settings = SESSIONS.to_vec();
    settings.push(("server_reset_query", ""));
    let pooler = PgBouncer::start(&cluster, &settings).await.unwrap();
    let mut warned = false;
    // Which of its sessions a process gets is the pooler's choice.
    for _ in 0..10 {
        let (code, output) = run(&["migrate"], &pooler.url("shop")).await;
        assert_eq!(code, Some(0), "{output}");
        warned |= output.contains("server_reset_query = DISCARD ALL");
    }
    assert!(warned);
    cluster.stop().await.unwrap();
}
