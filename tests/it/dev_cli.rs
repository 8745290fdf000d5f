//! `sagaline dev` and `sagaline demo`: everything on a private PostgreSQL, with a single command.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{Process, TempState, WAIT_TIMEOUT};

#[tokio::test]
async fn dev_serves_an_order_without_any_setup_and_stops_cleanly() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [("SAGALINE_STATE_DIR", state_dir.as_str()), ("PORT", "0"), ("LOG_LEVEL", "warn")];
    let mut dev = Process::sagaline(&["dev"], &env);
    let docs = dev.wait_for_line("/docs").await;
    let base = docs.split_whitespace().find_map(|word| word.strip_suffix("/docs")).unwrap().to_owned();
    let curl = dev.wait_for_line("curl ").await;

    let authorization = curl.split('\'').find_map(|part| part.strip_prefix("authorization: ")).unwrap();
    let key = state.state_dir().path().join("dev-key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(format!("Bearer {}", fs::read_to_string(&key).unwrap().trim()), authorization);

    // The printed command is meant to be pasted, so the test runs the same request.
    let body = curl.split('\'').find(|part| part.starts_with('{')).unwrap();
    let order: Value = serde_json::from_str(body).unwrap();
    let client = reqwest::Client::builder().timeout(WAIT_TIMEOUT).build().unwrap();
    let answer = client
        .post(format!("{base}/api/orders"))
        .header("prefer", "wait=30")
        .header("authorization", authorization)
        .json(&order)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let mut placed: Value = answer.json().await.unwrap();
    let begun = std::time::Instant::now();
    while placed["status"] == "pending" && begun.elapsed() < WAIT_TIMEOUT {
        let order = format!("{base}/api/orders/{}", placed["order_id"].as_str().unwrap());
        let order = client.get(order).header("authorization", authorization).send().await.unwrap();
        placed = order.json().await.unwrap();
    }
    assert_eq!(placed["status"], "confirmed", "{placed}");

    let mails = state.state_dir().path().join("mails");
    let begun = std::time::Instant::now();
    while !fs::read_dir(&mails).is_ok_and(|files| {
        files.filter_map(Result::ok).any(|file| file.path().extension().is_some_and(|kind| kind == "eml"))
    }) {
        assert!(begun.elapsed() < WAIT_TIMEOUT, "no mail is kept in {}:\n{}", mails.display(), dev.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    dev.sigint();
    let status = dev.wait().await;
    assert_eq!(status.code(), Some(0), "{}", dev.output());
}

#[tokio::test]
async fn dev_works_under_a_role_that_owns_nothing() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [("SAGALINE_STATE_DIR", state_dir.as_str()), ("PORT", "0"), ("LOG_LEVEL", "warn")];
    // The second start grants again what is revoked after the first, as it does for a table that a migration has made.
    for _ in 0..2 {
        let mut dev = Process::sagaline(&["dev"], &env);
        let line = dev.wait_for_line("psql ").await;
        dev.wait_for_line("Stop with Ctrl-C").await;
        let owner = line.split('\'').nth(1).unwrap();
        let mut owner = PgConnection::connect(owner).await.unwrap();
        let roles =
            "select distinct usename::text from pg_stat_activity where application_name like 'sagaline-%'";
        // The session that migrated is closed, but its server process may take a moment to end.
        let only_one = async {
            while sqlx::query_scalar::<_, String>(roles).fetch_all(&mut owner).await.unwrap()
                != ["shop_process"]
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, only_one).await.expect("no session of the owner stays");
        let granted = "select has_table_privilege('shop_process', 'shop.orders', 'update')
                          and not has_table_privilege('shop_process', 'shop.audit', 'update')";
        assert!(sqlx::query_scalar::<_, bool>(granted).fetch_one(&mut owner).await.unwrap());
        owner.execute("revoke update on shop.orders from shop_process").await.unwrap();
        owner.close().await.unwrap();
        dev.sigint();
        assert_eq!(dev.wait().await.code(), Some(0), "{}", dev.output());
    }
}

#[tokio::test]
async fn while_dev_runs_the_commands_on_a_database_use_its_one() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [("SAGALINE_STATE_DIR", state_dir.as_str()), ("PORT", "0"), ("LOG_LEVEL", "warn")];
    let mut dev = Process::sagaline(&["dev"], &env);
    dev.wait_for_line("/docs").await;
    let commands: [(&[&str], &str); 4] = [
        (&["keys", "create", "--name", "ann", "--role", "read"], "sgl_"),
        (&["keys", "list"], "ann"),
        (&["events", "consumers"], "events are kept"),
        (&["doctor"], "every invariant holds"),
    ];
    for (command, expected) in commands {
        let (code, output) = Process::run(command, &env).await;
        assert_eq!(code, Some(0), "{command:?}: {output}");
        assert!(output.contains("Using the private PostgreSQL of `sagaline dev`"), "{command:?}: {output}");
        assert!(output.contains(expected), "{command:?}: {output}");
    }
    dev.sigint();
    assert_eq!(dev.wait().await.code(), Some(0), "{}", dev.output());
    let (code, output) = Process::run(&["keys", "list"], &env).await;
    assert_eq!(code, Some(2), "dev stopped its server, so the commands left none: {output}");
}

#[tokio::test]
async fn dev_explains_how_to_choose_another_port_when_its_own_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let (code, output) =
        Process::run(&["dev"], &[("SAGALINE_STATE_DIR", state_dir.as_str()), ("PORT", port.as_str())]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("choose another port, such as PORT="), "{output}");
}

#[tokio::test]
async fn a_reset_never_touches_a_configured_database() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [
        ("SAGALINE_STATE_DIR", state_dir.as_str()),
        ("DATABASE_URL", "postgres://ann:hunter2@127.0.0.1:1/shop"),
        ("PORT", "0"),
    ];
    let (code, output) = Process::run(&["dev", "--reset"], &env).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("--reset deletes the embedded database only"), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
}

#[tokio::test]
async fn the_demo_injects_faults_and_finds_no_violation() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let mut demo = Process::sagaline(&["demo", "--orders", "60"], &[("SAGALINE_STATE_DIR", &state_dir)]);
    let status = demo.wait().await;
    let output = demo.output();
    assert!(status.success(), "{output}");
    assert!(output.contains("Everything held"), "{output}");
    assert!(output.contains("kill -9"), "{output}");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_at_any_moment_leaves_nothing() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    // From the first moment to the last: what exists in the demo's directory when the signal comes.
    for moment in ["", "postgres/data.new", "postgres/data/postmaster.pid", "serve.log"] {
        let parent = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sagaline"));
        command.arg("demo").env_clear().env("SAGALINE_STATE_DIR", &state_dir);
        let mut demo = Process::start_in(command, parent.path());
        demo.wait_for_line("Starting a private PostgreSQL").await;
        let server = until_there(parent.path(), moment).await;
        demo.sigint();
        demo.wait().await;
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{moment}: {left:?}\n{}", demo.output());
        if let Some(pid) = server {
            let running = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!running.contains("postgres"), "{moment}: the server runs on");
        }
    }
}

/// Waits until the only directory below `parent` has this file, and returns the server's process id if it has started.
async fn until_there(parent: &Path, file: &str) -> Option<u32> {
    let waited = tokio::time::timeout(WAIT_TIMEOUT, async {
        loop {
            let dir = fs::read_dir(parent).unwrap().next().map(|entry| entry.unwrap().path());
            if let Some(dir) = dir.filter(|dir| dir.join(file).exists()) {
                return dir;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let dir = waited.await.unwrap_or_else(|_| panic!("the demo never has {file}"));
    fs::read_to_string(dir.join("postgres/data/postmaster.pid")).ok()?.lines().next()?.parse().ok()
}
