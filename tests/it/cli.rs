//! The program on the command line: exit codes, messages, and one order with a single command.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{Database, Process, TempState, WAIT_TIMEOUT};

/// A URL on port 1, on which no server listens.
const WRONG: &str = "postgres://ann:hunter2@127.0.0.1:1/shop";

/// Runs the program to its end; returns the exit code and the output.
async fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut process = Process::sagaline(args, env);
    let status = process.wait().await;
    (status.code(), process.output())
}

#[tokio::test]
async fn a_wrong_database_url_is_reported_with_its_password_hidden() {
    let env =
        [("DATABASE_URL", WRONG), ("DATABASE_WAIT", "0s"), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0")];
    for command in ["serve", "work", "migrate", "doctor", "dev"] {
        let (code, output) = run(&[command], &env).await;
        assert_eq!(code, Some(2), "{command}: {output}");
        assert!(output.contains("postgres://ann:***@127.0.0.1:1/shop"), "{command}: {output}");
        assert!(!output.contains("hunter2"), "{command}: {output}");
    }
}

#[tokio::test]
async fn a_missing_database_url_is_reported_by_every_command_that_starts_no_database() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [("SMTP_URL", "smtp://127.0.0.1:1"), ("SAGALINE_STATE_DIR", state_dir.as_str())];
    let commands: [&[&str]; 6] =
        [&["serve"], &["work"], &["migrate"], &["doctor"], &["keys", "list"], &["events", "consumers"]];
    for command in commands {
        let (code, output) = run(command, &env).await;
        assert_eq!(code, Some(2), "{command:?}: {output}");
        assert!(output.contains("DATABASE_URL is not set"), "{command:?}: {output}");
    }
    assert!(!state.state_dir().path().join("postgres").exists(), "they make nothing");
}

#[tokio::test]
async fn a_command_waits_a_limited_time_for_a_database_that_does_not_answer() {
    let env = [("DATABASE_URL", WRONG), ("DATABASE_WAIT", "1s"), ("PORT", "0"), ("LOG_FORMAT", "json")];
    let (code, output) = run(&["serve"], &env).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("the database does not answer yet; trying again"), "{output}");
}

#[tokio::test]
async fn the_error_for_an_invalid_value_names_its_variable_and_what_is_expected() {
    let (code, output) = run(&["serve"], &[("LEASE_SECONDS", "soon"), ("LOG_FORMAT", "xml")]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("LEASE_SECONDS is `soon`, but should be seconds"), "{output}");
    assert!(output.contains("LOG_FORMAT is `xml`, but should be `auto`, `pretty` or `json`"), "{output}");
}

#[tokio::test]
async fn a_database_is_refused_until_it_is_migrated() {
    let database = Database::fresh().await;
    database.owner_pool().await.execute("drop schema shop cascade").await.unwrap();
    let url = database.owner_url();
    let env = [("DATABASE_URL", url.as_str()), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0")];
    for command in ["serve", "work", "doctor"] {
        let (code, output) = run(&[command], &env).await;
        assert_eq!(code, Some(2), "{command}: {output}");
        assert!(output.contains("run `sagaline migrate`"), "{command}: {output}");
    }
    let (code, output) = run(&["migrate"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = run(&["doctor"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("every invariant holds"), "{output}");
}

#[tokio::test]
async fn bench_refuses_an_unoptimised_build_and_names_its_profile() {
    if cfg!(debug_assertions) {
        let (code, output) = run(&["bench", "steps"], &[]).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("in the profile `dev`"), "{output}");
    }
}

#[tokio::test]
async fn bench_fill_makes_a_database_that_the_doctor_finds_clean() {
    let database = Database::fresh().await;
    let url = database.owner_url();
    let env = [("DATABASE_URL", url.as_str()), ("SMTP_URL", "smtp://127.0.0.1:1")];
    let (code, output) = run(&["bench", "fill", "--sagas", "5000"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = run(&["doctor", "--whole"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("every invariant holds"), "{output}");
    assert!(output.contains("all 5000 sagas, orders and notifications"), "{output}");

    let (code, output) = run(&["doctor", "--json"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let findings: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(findings["holds"], true);
    assert_eq!(findings["covered"]["everything"], true);
    assert_eq!(findings["invariants"].as_array().unwrap().len(), 10);

    let (code, output) = run(&["bench", "fill", "--sagas", "2"], &env).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("needs an empty one"), "{output}");
}

#[tokio::test]
async fn the_doctor_names_skus_that_break_the_rules_for_new_ones() {
    let database = Database::fresh().await;
    let id = "0198c0de-0000-7000-8000-000000000001";
    let created = format!(
        "insert into shop.product (product_id, sku, name, description, category, price, currency)
             values ('{id}', 'TEA\u{200b}-1', 'Tea', '', 'tea', 1, 'EUR');
         insert into shop.stock (sku, on_hand, low_stock_threshold) select sku, 0, 0 from shop.product;
         insert into shop.stock_movement (sku, kind, delta_on_hand, delta_reserved, actor)
             select sku, 'initial', 0, 0, 'clerk' from shop.product"
    );
    database.pool().await.execute(sqlx::AssertSqlSafe(created)).await.unwrap();
    let url = database.url();
    let note = format!(
        "the SKU `TEA\\u{{200b}}-1` of product {id} must not contain invisible characters, nor white space but U+0020"
    );
    let (code, output) = run(&["doctor"], &[("DATABASE_URL", url.as_str())]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(&format!("note: {note}")), "{output}");
    let (code, output) = run(&["doctor", "--json"], &[("DATABASE_URL", url.as_str())]).await;
    assert_eq!(code, Some(0), "{output}");
    let findings: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(findings["notes"], serde_json::json!([note]));
}

#[tokio::test]
async fn migrate_stores_how_long_audits_are_kept() {
    let database = Database::fresh().await;
    let url = database.owner_url();
    let stored = "select extract(epoch from keep)::bigint / 86400 from engine.audit_retention";
    for (keep, expected) in [("730d", Some(730)), ("never", None), ("", Some(3650))] {
        let (code, output) = run(&["migrate"], &[("DATABASE_URL", url.as_str()), ("AUDIT_KEEP", keep)]).await;
        assert_eq!(code, Some(0), "{output}");
        let days: Option<i64> = sqlx::query_scalar(stored).fetch_one(&database.pool().await).await.unwrap();
        assert_eq!(days, expected, "AUDIT_KEEP={keep}");
    }
    let (code, output) = run(&["migrate"], &[("DATABASE_URL", url.as_str()), ("AUDIT_KEEP", "30d")]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("AUDIT_KEEP is `30d`, but should be a duration of 365 days"), "{output}");
}

#[tokio::test]
async fn a_database_from_before_the_first_release_is_refused_with_instructions() {
    let other_migrations = [
        // Other migrations with the same versions as today's.
        ("engine", "update engine._sqlx_migrations set checksum = sha384(checksum) where version = 1"),
        // A version that today's migrations do not have.
        ("shop", "update shop.migration set version = 0 where version = 1"),
    ];
    for (schema, sql) in other_migrations {
        let database = Database::fresh().await;
        database.owner_pool().await.execute(sql).await.unwrap();
        let url = database.owner_url();
        let env = [("DATABASE_URL", url.as_str()), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0")];
        for command in ["migrate", "serve", "work", "doctor", "dev"] {
            let (code, output) = run(&[command], &env).await;
            assert_eq!(code, Some(2), "{command}: {output}");
            let created = format!("its schema `{schema}` was created by a development version");
            assert!(output.contains(&created), "{command}: {output}");
            assert!(output.contains("`alter database … rename to …`"), "{command}: {output}");
        }
    }
}

#[tokio::test]
async fn a_stale_openapi_file_is_detected() {
    let state = TempState::new();
    let file = state.temp_dir().join("openapi.json");
    let path = file.to_str().unwrap();
    let (code, document) = run(&["openapi"], &[]).await;
    assert_eq!(code, Some(0), "{document}");

    std::fs::write(&file, &document).unwrap();
    let (code, output) = run(&["openapi", "--check", path], &[]).await;
    assert_eq!(code, Some(0), "{output}");

    std::fs::write(&file, document.replacen("/api/orders", "/api/borders", 1)).unwrap();
    let (code, output) = run(&["openapi", "--check", path], &[]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("is stale, from line"), "{output}");
}

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
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(format!("Bearer {}", std::fs::read_to_string(&key).unwrap().trim()), authorization);

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
    while !std::fs::read_dir(&mails).is_ok_and(|files| {
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
        let roles: Vec<String> = sqlx::query_scalar(roles).fetch_all(&mut owner).await.unwrap();
        assert_eq!(roles, ["shop_process"]);
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
        let (code, output) = run(command, &env).await;
        assert_eq!(code, Some(0), "{command:?}: {output}");
        assert!(output.contains("Using the private PostgreSQL of `sagaline dev`"), "{command:?}: {output}");
        assert!(output.contains(expected), "{command:?}: {output}");
    }
    dev.sigint();
    assert_eq!(dev.wait().await.code(), Some(0), "{}", dev.output());
    let (code, output) = run(&["keys", "list"], &env).await;
    assert_eq!(code, Some(2), "dev stopped its server, so the commands left none: {output}");
}

#[tokio::test]
async fn dev_explains_how_to_choose_another_port_when_its_own_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let (code, output) =
        run(&["dev"], &[("SAGALINE_STATE_DIR", state_dir.as_str()), ("PORT", port.as_str())]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("choose another port, such as PORT="), "{output}");
}

#[tokio::test]
async fn a_reset_never_touches_a_configured_database() {
    let state = TempState::new();
    let state_dir = state.state_dir().path().to_str().unwrap().to_owned();
    let env = [("SAGALINE_STATE_DIR", state_dir.as_str()), ("DATABASE_URL", WRONG), ("PORT", "0")];
    let (code, output) = run(&["dev", "--reset"], &env).await;
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

#[tokio::test]
async fn a_server_listens_on_the_configured_address_and_port() {
    let database = Database::fresh().await;
    let url = database.url();
    let env = [
        ("DATABASE_URL", url.as_str()),
        ("AUTH", "off"),
        ("HOST", "0.0.0.0"),
        ("PORT", "0"),
        ("LOG_FORMAT", "json"),
    ];
    let mut server = Process::sagaline(&["serve"], &env);
    let line: Value = serde_json::from_str(&server.wait_for_line("serving").await).unwrap();
    let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    assert!(address.ip().is_unspecified() && address.port() != 0, "{address}");
    server.sigterm();
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_configured_folder_of_postgresql_binaries_is_the_only_one_searched() {
    let state = TempState::new();
    let state_dir = state.state_dir();
    let mut dev = tokio::process::Command::new(env!("CARGO_BIN_EXE_sagaline"));
    let env = [
        ("SAGALINE_PG_BIN", "/nowhere/bin"),
        ("SAGALINE_STATE_DIR", state_dir.path().to_str().unwrap()),
        ("PORT", "0"),
    ];
    let ended = dev.arg("dev").env_clear().envs(env).output().await.unwrap();
    let output = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{output}");
    assert!(output.contains("/nowhere/bin") && !output.contains("pg_config"), "{output}");
}
