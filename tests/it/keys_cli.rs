//! `sagaline keys`, and servers that require a key.

use serde_json::Value;

use crate::support::{Database, Process, TempState};

fn token_in(output: &str) -> String {
    let token = output.split_whitespace().find(|word| word.starts_with("sgl_"));
    token.unwrap_or_else(|| panic!("no key in: {output}")).to_owned()
}

async fn status(base: &str, path: &str, token: Option<&str>) -> u16 {
    let mut request = reqwest::Client::new().get(format!("{base}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

/// The address that a serving process listens on, from its log.
pub(crate) async fn base(serve: &Process) -> String {
    let line = serve.wait_for_line(r#""message":"serving""#).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    let fields = line.get("fields").unwrap_or(&line);
    format!("http://{}", fields["address"].as_str().unwrap_or_else(|| panic!("no address in {line}")))
}

#[tokio::test]
async fn a_server_does_not_start_without_a_usable_key_unless_keys_are_disabled() {
    let database = Database::fresh().await;
    let url = database.url();
    let env = [("DATABASE_URL", url.as_str()), ("PORT", "0"), ("LOG_FORMAT", "json")];
    let (code, output) = Process::run(&["serve"], &env).await;
    assert_eq!(code, Some(2), "{output}");
    for remedy in ["sagaline keys create --name admin --role operate", "AUTH=off sagaline serve"] {
        assert!(output.contains(remedy), "{output}");
    }

    let open = Process::sagaline(&["serve"], &[&env[..], &[("AUTH", "off")]].concat());
    assert_eq!(status(&base(&open).await, "/api/audit", None).await, 200);

    let (code, output) =
        Process::run(&["keys", "create", "--name", "admin", "--role", "operate"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    let token = token_in(&output);
    let serve = Process::sagaline(&["serve"], &env);
    let base = base(&serve).await;
    assert_eq!(status(&base, "/api/audit", None).await, 401);
    assert_eq!(status(&base, "/api/audit", Some(&token)).await, 200);
    assert_eq!(status(&base, "/metrics", None).await, 401);
    let secret = token.rsplit('_').next().unwrap();
    assert!(!serve.output().contains(secret), "{}", serve.output());
}

#[tokio::test]
async fn a_key_is_shown_once_listed_without_its_secret_and_revoked_for_good() {
    let database = Database::fresh().await;
    let url = database.url();
    let env = [("DATABASE_URL", url.as_str())];
    let (_, output) = Process::run(&["keys", "list"], &env).await;
    assert!(output.contains("There is no key"), "{output}");
    let create =
        ["keys", "create", "--name", "web", "--role", "write", "--expires", "90d", "--reason", "a new shop"];
    let (code, output) = Process::run(&create, &env).await;
    assert_eq!(code, Some(0), "{output}");
    let token = token_in(&output);
    let parts: Vec<&str> = token.split('_').collect();
    let (id, secret) = (parts[1], parts[2]);

    let (code, list) = Process::run(&["keys", "list"], &env).await;
    assert_eq!(code, Some(0), "{list}");
    assert!(list.contains(id) && list.contains("web") && list.contains("usable"), "{list}");
    assert!(!list.contains(secret), "{list}");
    let pool = database.pool().await;
    let stored: String = sqlx::query_scalar(
        "select row_to_json(k)::text || (select json_agg(a)::text from shop.audit a) from shop.api_key k",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(stored.contains(id) && !stored.contains(secret), "{stored}");

    for _ in 0..2 {
        let (code, output) = Process::run(&["keys", "revoke", id, "--reason", "left us"], &env).await;
        assert_eq!(code, Some(0), "{output}");
    }
    let (_, list) = Process::run(&["keys", "list"], &env).await;
    assert!(list.contains("revoked"), "{list}");
    let audited: Vec<(String, String, Option<String>)> =
        sqlx::query_as("select action, subject_id, reason from shop.audit order by id")
            .fetch_all(&pool)
            .await
            .unwrap();
    let entry =
        |action: &str, reason: Option<&str>| (action.to_owned(), id.to_owned(), reason.map(Into::into));
    assert_eq!(audited, [entry("key.create", Some("a new shop")), entry("key.revoke", Some("left us"))]);
    // The only key is revoked, so no caller could use the server.
    let (code, _) = Process::run(&["serve"], &[&env[..], &[("PORT", "0")]].concat()).await;
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn invalid_arguments_of_a_key_are_refused() {
    let database = Database::fresh().await;
    let url = database.url();
    let env = [("DATABASE_URL", url.as_str())];
    for wrong in [
        &["keys", "create", "--name", "a b", "--role", "read"][..],
        &["keys", "create", "--name", "", "--role", "read"],
        &["keys", "create", "--name", "web", "--role", "root"],
        &["keys", "create", "--name", "web", "--role", "read", "--expires", "soon"],
        &["keys", "create", "--name", "web", "--role", "read", "--expires", "0s"],
        &["keys", "create", "--name", "web", "--role", "read", "--expires", "4000d"],
        &["keys", "create", "--role", "read"],
        &["keys", "create", "--name", "web", "--role", "read", "--reason", " "],
        &["keys", "create", "--name", "web", "--role", "read", "--reason", "a\nb"],
        &["keys", "revoke", "0000000000000000"],
    ] {
        let (code, output) = Process::run(wrong, &env).await;
        assert_eq!(code, Some(2), "{wrong:?}: {output}");
    }
    let (_, output) = Process::run(&["keys", "list"], &env).await;
    assert!(output.contains("There is no key"), "{output}");
}

#[tokio::test]
async fn a_secret_can_be_read_from_a_file_instead_of_the_variable() {
    let database = Database::fresh().await;
    let state = TempState::new();
    let file = state.temp_dir().join("database-url");
    std::fs::write(&file, format!("{}\n", database.url())).unwrap();
    let path = file.to_str().unwrap();
    let (code, output) = Process::run(&["keys", "list"], &[("DATABASE_URL_FILE", path)]).await;
    assert_eq!(code, Some(0), "{output}");

    let both = [("DATABASE_URL_FILE", path), ("DATABASE_URL", "postgres://ann:hunter2@db/shop")];
    let (code, output) = Process::run(&["keys", "list"], &both).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("DATABASE_URL_FILE") && output.contains("DATABASE_URL is set too"), "{output}");
    assert!(!output.contains("hunter2"), "{output}");

    let missing = format!("{path}.gone");
    let (code, output) = Process::run(&["keys", "list"], &[("DATABASE_URL_FILE", missing.as_str())]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("DATABASE_URL_FILE") && output.contains("a file that can be read"), "{output}");

    std::fs::write(&file, "mysql://ann:hunter2@db/shop").unwrap();
    let (code, output) = Process::run(&["keys", "list"], &[("DATABASE_URL_FILE", path)]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("DATABASE_URL should be") && !output.contains("hunter2"), "{output}");
}
