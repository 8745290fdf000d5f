//! The program on the command line: exit codes and messages.

use serde_json::Value;
use sqlx::Executor;

use crate::support::{Database, Process, TempState};

/// A URL on port 1, on which no server listens.
const WRONG: &str = "postgres://ann:hunter2@127.0.0.1:1/shop";

#[tokio::test]
async fn a_wrong_database_url_is_reported_with_its_password_hidden() {
    let env =
        [("DATABASE_URL", WRONG), ("DATABASE_WAIT", "0s"), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0")];
    for command in ["serve", "work", "migrate", "doctor", "dev"] {
        let (code, output) = Process::run(&[command], &env).await;
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
        let (code, output) = Process::run(command, &env).await;
        assert_eq!(code, Some(2), "{command:?}: {output}");
        assert!(output.contains("DATABASE_URL is not set"), "{command:?}: {output}");
    }
    assert!(!state.state_dir().path().join("postgres").exists(), "they make nothing");
}

#[tokio::test]
async fn a_command_waits_a_limited_time_for_a_database_that_does_not_answer() {
    let env = [("DATABASE_URL", WRONG), ("DATABASE_WAIT", "1s"), ("PORT", "0"), ("LOG_FORMAT", "json")];
    let (code, output) = Process::run(&["serve"], &env).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("the database does not answer yet; trying again"), "{output}");
}

#[tokio::test]
async fn the_error_for_an_invalid_value_names_its_variable_and_what_is_expected() {
    let (code, output) = Process::run(&["serve"], &[("LEASE_SECONDS", "soon"), ("LOG_FORMAT", "xml")]).await;
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
        let (code, output) = Process::run(&[command], &env).await;
        assert_eq!(code, Some(2), "{command}: {output}");
        assert!(output.contains("run `sagaline migrate`"), "{command}: {output}");
    }
    let (code, output) = Process::run(&["migrate"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = Process::run(&["doctor"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("every invariant holds"), "{output}");
}

#[tokio::test]
async fn bench_refuses_an_unoptimised_build_and_names_its_profile() {
    if cfg!(debug_assertions) {
        let (code, output) = Process::run(&["bench", "steps"], &[]).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("in the profile `dev`"), "{output}");
    }
}

#[tokio::test]
async fn bench_fill_makes_a_database_that_the_doctor_finds_clean() {
    let database = Database::fresh().await;
    let url = database.owner_url();
    let env = [("DATABASE_URL", url.as_str()), ("SMTP_URL", "smtp://127.0.0.1:1")];
    let (code, output) = Process::run(&["bench", "fill", "--sagas", "5000"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = Process::run(&["doctor", "--whole"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("every invariant holds"), "{output}");
    assert!(output.contains("all 5000 sagas, orders and notifications"), "{output}");

    let (code, output) = Process::run(&["doctor", "--json"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let findings: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(findings["holds"], true);
    assert_eq!(findings["covered"]["everything"], true);
    assert_eq!(findings["invariants"].as_array().unwrap().len(), 14);

    let (code, output) = Process::run(&["bench", "fill", "--sagas", "2"], &env).await;
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
    let (code, output) = Process::run(&["doctor"], &[("DATABASE_URL", url.as_str())]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains(&format!("note: {note}")), "{output}");
    let (code, output) = Process::run(&["doctor", "--json"], &[("DATABASE_URL", url.as_str())]).await;
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
        let (code, output) =
            Process::run(&["migrate"], &[("DATABASE_URL", url.as_str()), ("AUDIT_KEEP", keep)]).await;
        assert_eq!(code, Some(0), "{output}");
        let days: Option<i64> = sqlx::query_scalar(stored).fetch_one(&database.pool().await).await.unwrap();
        assert_eq!(days, expected, "AUDIT_KEEP={keep}");
    }
    let (code, output) =
        Process::run(&["migrate"], &[("DATABASE_URL", url.as_str()), ("AUDIT_KEEP", "30d")]).await;
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
            let (code, output) = Process::run(&[command], &env).await;
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
    let (code, document) = Process::run(&["openapi"], &[]).await;
    assert_eq!(code, Some(0), "{document}");

    std::fs::write(&file, &document).unwrap();
    let (code, output) = Process::run(&["openapi", "--check", path], &[]).await;
    assert_eq!(code, Some(0), "{output}");

    std::fs::write(&file, document.replacen("/api/orders", "/api/borders", 1)).unwrap();
    let (code, output) = Process::run(&["openapi", "--check", path], &[]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("is stale, from line"), "{output}");
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

#[tokio::test]
async fn check_tells_which_sagas_in_flight_this_build_does_not_know() {
    let database = Database::fresh().await;
    let url = database.url();
    let env = [("DATABASE_URL", url.as_str())];
    let (code, output) = Process::run(&["check"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("goes on with all 0 sagas in flight"), "{output}");
    let unknown = "insert into engine.saga (id, definition, graph_hash, queue, status, step, direction, input, due_at) \
         values ('0198c0de-0000-7000-8000-000000000001', 'place-order', 'g1:0', 'orders', 'running', 'open-order', \
             'action', '{}', now())";
    database.pool().await.execute(unknown).await.unwrap();
    let (code, output) = Process::run(&["check"], &env).await;
    assert_eq!(code, Some(1), "{output}");
    for word in ["place-order", "g1:0", "open-order", "running", "unknown", "can't go on with 1 of 1 sagas"] {
        assert!(output.contains(word), "{word}: {output}");
    }
    let (code, output) = Process::run(&["check", "--json"], &env).await;
    assert_eq!(code, Some(1), "{output}");
    let findings: Value =
        output.lines().find_map(|line| serde_json::from_str(line).ok()).expect("one line is JSON");
    assert_eq!(findings["safe"], false, "{findings}");
    assert_eq!(findings["in_flight"][0]["prospect"], "unknown", "{findings}");
}
