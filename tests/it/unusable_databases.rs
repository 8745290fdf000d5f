//! Databases that can't be used: every command refuses them at its start, and says what to do.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{Database, Process, TempState};

/// The commands that use a given database.
const COMMANDS: [&[&str]; 6] =
    [&["migrate"], &["serve"], &["work"], &["doctor"], &["dev"], &["keys", "list"]];

/// Runs a command to its end; returns the exit code and the output.
async fn run(args: &[&str], url: &str) -> (Option<i32>, String) {
    let env = [("DATABASE_URL", url), ("SMTP_URL", "smtp://127.0.0.1:1"), ("PORT", "0"), ("WORK_PORT", "0")];
    let mut process = Process::sagaline(args, &env);
    let status = process.wait().await;
    (status.code(), process.output())
}

/// Checks that a command refuses a database, and that its message contains these texts.
async fn refuses(args: &[&str], url: &str, texts: &[&str]) {
    let (code, output) = run(args, url).await;
    assert_eq!(code, Some(2), "{args:?}: {output}");
    for text in texts {
        assert!(output.contains(text), "{args:?} does not say `{text}`: {output}");
    }
}

#[tokio::test]
async fn an_unescaped_password_is_named_at_once_and_never_shown() {
    for url in ["postgres://user:p@ss/w#rd@127.0.0.1:1/db", "postgres://user:12/w?rd@127.0.0.1:1/db"] {
        for args in COMMANDS {
            let (code, output) = run(args, url).await;
            assert_eq!(code, Some(2), "{args:?}: {output}");
            assert!(
                output.contains("DATABASE_URL") && output.contains("write `@` as %40"),
                "{args:?}: {output}"
            );
            assert!(
                !["ss/w", "w#rd", "12/w", "w?rd"].iter().any(|part| output.contains(part)),
                "{args:?}: {output}"
            );
        }
        for command in ["migrate", "doctor", "dev"] {
            let mut process = Process::sagaline(&[command, "--database-url", url], &[("PORT", "0")]);
            assert_eq!(process.wait().await.code(), Some(2), "{command}: {}", process.output());
            let output = process.output();
            assert!(output.contains("--database-url") && output.contains("write `@` as %40"), "{output}");
            assert!(
                !["ss/w", "w#rd", "12/w", "w?rd"].iter().any(|part| output.contains(part)),
                "{command}: {output}"
            );
        }
    }
    for variable in ["REDIS_URL", "AMQP_URL", "SMTP_URL"] {
        let scheme = variable.split('_').next().unwrap().to_ascii_lowercase();
        let mut process =
            Process::sagaline(&["work"], &[(variable, &format!("{scheme}://user:pa/ss@127.0.0.1:1"))]);
        assert_eq!(process.wait().await.code(), Some(2), "{}", process.output());
        assert!(process.output().contains(&format!("{variable} should be")), "{}", process.output());
    }
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let state = TempState::new();
    let cluster = state.start().await;
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    for (name, encoding) in [("latin", "LATIN1"), ("bytes", "SQL_ASCII")] {
        let create = format!(
            "create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
        );
        admin.execute(AssertSqlSafe(create)).await.unwrap();
        for args in COMMANDS {
            refuses(args, &cluster.url(name), &[&format!("its encoding is {encoding}"), "encoding 'UTF8'"])
                .await;
        }
    }
    admin.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_role_without_the_privileges_that_a_command_needs_is_refused_and_they_are_named() {
    let state = TempState::new();
    let cluster = state.start().await;
    cluster.create_database_if_missing("shop").await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    admin.execute("create role app login").await.unwrap();
    let owner = cluster.url("shop");
    let app = owner.replace("user=sagaline", "user=app");
    assert_ne!(owner, app);
    refuses(&["migrate"], &app, &["may not migrate it", "create on the database shop"]).await;
    sagaline::migrate(&owner, None).await.unwrap();
    for args in [&["serve"][..], &["work"], &["doctor"]] {
        refuses(args, &app, &["may not work with it", "usage on the schema engine"]).await;
    }
    let (code, output) = run(&["migrate", "--grant-to", "app"], &owner).await;
    assert_eq!(code, Some(0), "{output}");
    sqlx::raw_sql("revoke update on shop.orders from app").execute(&mut admin).await.unwrap();
    for args in [&["serve"][..], &["work"], &["doctor"]] {
        refuses(args, &app, &["may not work with it", "update on shop.orders"]).await;
    }
    sqlx::raw_sql("grant update on shop.orders to app").execute(&mut admin).await.unwrap();
    let (code, output) = run(&["doctor"], &app).await;
    assert_eq!(code, Some(0), "{output}");
    refuses(&["migrate"], &app, &["may not migrate it", "membership in the role sagaline"]).await;
    admin.close().await.unwrap();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_schema_says_which_processes_it_admits() {
    for (schema, list) in [("engine", "_sqlx_migrations"), ("shop", "migration")] {
        let database = Database::fresh().await;
        let pool = database.owner_pool().await;
        // A migration of a version that does not exist yet, with which this one still works.
        let newer = format!(
            "insert into {schema}.{list} (version, description, success, checksum, execution_time)
             values (900000, 'newer', true, '', 0)"
        );
        sqlx::raw_sql(AssertSqlSafe(newer)).execute(&pool).await.unwrap();
        let (code, output) = run(&["doctor"], &database.owner_url()).await;
        assert_eq!(code, Some(0), "{output}");
        let raise = format!("update {schema}.admission set oldest_migration = 900000");
        sqlx::raw_sql(AssertSqlSafe(raise)).execute(&pool).await.unwrap();
        for args in COMMANDS {
            let refusal = format!("its schema `{schema}`, which admits processes that know migration 900000");
            refuses(args, &database.owner_url(), &[&refusal, "run the newer version"]).await;
        }
    }
}

#[tokio::test]
async fn a_database_that_is_read_only_is_not_migrated() {
    let database = Database::fresh().await;
    let pool = database.owner_pool().await;
    let read_only = "do $$ begin
                         execute format('alter database %I set default_transaction_read_only = on', current_database());
                     end $$";
    sqlx::raw_sql(read_only).execute(&pool).await.unwrap();
    refuses(&["migrate"], &database.owner_url(), &["it is read-only", "Connect to the primary"]).await;
}
