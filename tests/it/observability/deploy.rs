//! What it is deployed with fits what it is. The files' own syntax is checked by `scripts/check-deploy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::papers::{members, read};

#[test]
fn an_image_is_built_from_every_crate() {
    let ignored = read(".dockerignore");
    for member in members() {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), ".dockerignore hides {member}");
    }
}

/// The first part of every path under `/api`, and the other pages.
fn prefixes() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().keys();
    let first = |path: &String| match path.strip_prefix("/api/") {
        Some(rest) => format!("/api/{}", rest.split('/').next().unwrap()),
        None => format!("/{}", path.trim_start_matches('/').split('/').next().unwrap()),
    };
    paths.map(first).collect()
}

#[test]
fn nginx_knows_where_every_path_goes() {
    let config = read("deploy/nginx/nginx.conf");
    let known: BTreeSet<_> = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("~^"))
        .filter_map(|line| line.split("(/|$)").next())
        .map(ToOwned::to_owned)
        .collect();
    let lost: Vec<_> = prefixes().into_iter().filter(|prefix| !known.contains(prefix)).collect();
    assert!(lost.is_empty(), "deploy/nginx/nginx.conf does not say who serves {lost:?}");
}

#[test]
fn the_production_file_sets_only_variables_that_there_are() {
    let (compose, example) = (read("docker-compose.prod.yml"), read(".env.example"));
    let ours: BTreeSet<_> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    let lines = compose.lines().filter(|line| !line.trim_start().starts_with('#'));
    // A line of its own each, or `{ <<: *settings, NAME: "value" }`.
    let pairs = lines.flat_map(|line| line.split(", ")).filter_map(|part| part.trim().split_once(": "));
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    // Those with these prefixes are for other images; capabilities have no value.
    let others = ["POSTGRES_", "RABBITMQ_", "GF_"];
    let set: BTreeSet<_> = pairs
        .map(|(name, _)| name)
        .filter(|name| is_name(name) && !others.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| name.strip_suffix("_FILE").unwrap_or(name))
        .collect();
    assert!(set.contains("DATABASE_URL") && set.contains("WORK_PORT"), "{set:?}");
    let strangers: Vec<_> = set.difference(&ours).collect();
    assert!(strangers.is_empty(), "docker-compose.prod.yml sets {strangers:?}, which nobody reads");
}

#[tokio::test]
async fn each_role_alone_listens_on_its_own_port() {
    let roles =
        [("orders", "ORDERS_PORT"), ("inventory", "INVENTORY_PORT"), ("notifications", "NOTIFICATIONS_PORT")];
    for (role, variable) in roles {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let env =
            [("DATABASE_URL", "postgres://127.0.0.1:1/shop"), ("AUTH", "off"), (variable, port.as_str())];
        let mut process = crate::support::Process::sagaline(&["serve", "--role", role], &env);
        let code = process.wait().await.code();
        let output = process.output();
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(&format!("can't listen on 127.0.0.1:{port}")), "{role}: {output}");
        assert!(output.contains(variable), "{role}: {output}");
    }
}

#[test]
fn no_secret_stands_in_the_production_file() {
    let compose = read("docker-compose.prod.yml");
    for word in ["PASSWORD", "TOKEN", "_URL"] {
        for line in compose.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(": ") else { continue };
            let is_plain = name.contains(word) && !name.ends_with("_FILE");
            assert!(!is_plain, "{name} is given as {value}; give {name}_FILE");
        }
    }
    for service in ["orders", "inventory", "notifications", "work"] {
        assert!(compose.contains(&format!("\n  {service}:\n")), "there is no service {service}");
    }
    assert!(compose.contains("read_only: true") && compose.contains("no-new-privileges:true"));
}
