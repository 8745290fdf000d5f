//! The deployment files match the program. `scripts/check-deploy` checks their own syntax.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::docs_match_metrics::{members, read};

#[test]
fn an_image_is_built_from_every_crate() {
    let ignored = read(".dockerignore");
    for member in members() {
        assert!(ignored.lines().any(|line| line == format!("!{member}")), ".dockerignore hides {member}");
    }
    // The image has its own Rust; with this file, rustup would download another toolchain with all components for
    // development.
    assert!(!ignored.contains("!rust-toolchain.toml"));
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap();
    let (minor, _) = version.rsplit_once('.').unwrap();
    assert!(read("Dockerfile").contains(&format!("FROM rust:{minor}-slim-")), "{version}");
}

/// Every path of the OpenAPI document with the upstream that nginx must choose. The tag of a path names its service;
/// paths that all services share go to `orders`; `/metrics` is not reachable through nginx (`none`).
fn served_by() -> BTreeMap<String, String> {
    let document: Value = serde_json::from_str(&read("openapi/openapi.json")).unwrap();
    let with_upstream = |(path, item): (&String, &Value)| {
        let tag = item.as_object().unwrap().values().next().unwrap()["tags"][0].as_str().unwrap();
        let service = match tag {
            "inventory" | "notifications" => tag,
            _ if path == "/metrics" => "none",
            _ => "orders",
        };
        (path.clone(), service.to_owned())
    };
    document["paths"].as_object().unwrap().iter().map(with_upstream).collect()
}

#[test]
fn nginx_routes_every_path_to_its_service() {
    let config = read("deploy/nginx/nginx.conf");
    let known: Vec<(&str, &str)> = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("~^"))
        .filter_map(|line| line.split_once("(/|$)"))
        .map(|(prefix, service)| (prefix, service.trim().trim_end_matches(';')))
        .collect();
    let goes_to = |path: &str| {
        let is_under = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        known.iter().find(|(prefix, _)| is_under(prefix)).map(|(_, service)| (*service).to_owned())
    };
    let upstreams: BTreeSet<_> = served_by().into_values().collect();
    assert_eq!(upstreams.len(), 4, "every service, and paths without one: {upstreams:?}");
    for (path, service) in served_by() {
        assert_eq!(goes_to(&path), Some(service), "{path}");
    }
    for page in ["/docs", "/openapi.json"] {
        assert_eq!(goes_to(page).as_deref(), Some("orders"), "{page}");
    }
}

#[test]
fn problems_of_nginx_look_like_those_of_the_services() {
    let (config, problems) = (read("deploy/nginx/nginx.conf"), read("api/src/http/problem_code.rs"));
    let table = |start: &str| {
        let rows = config.split_once(start).unwrap().1.split_once('}').unwrap().0;
        let row = |line: &str| {
            line.trim()
                .trim_end_matches(';')
                .split_once(' ')
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        };
        rows.lines().filter_map(row).collect::<BTreeMap<_, _>>()
    };
    let (codes, texts) = (table("map $status $code {"), table("map $status $refusal {"));
    assert!(codes.len() > 5 && codes.keys().eq(texts.keys()), "{codes:?} {texts:?}");
    for (status, code) in &codes {
        assert!(problems.contains(&format!("\"{code}\"")), "no problem has the code {code}");
        let title = texts[status].split("\"title\":").nth(1).unwrap().split(',').next().unwrap();
        // `unavailable` has its own title in nginx: there the service can't be reached, while a service reports that
        // its database can't.
        let is_known = code == "unavailable" || problems.contains(title);
        assert!(is_known, "{code} is titled {title}");
    }
    // The limit per address is higher than the limit per key: a shop's back end makes all its calls from one address
    // with one key, and must reach the limit of the key first.
    let number = |text: &str, start: &str| -> u32 {
        let digits = text.split_once(start).unwrap().1;
        digits.split(|digit: char| !digit.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let (address, key) = (number(&config, "rate="), number(&read(".env.example"), "or off. The default is "));
    assert!(address * 60 > key, "{address}/s and {key}/m");
}

#[test]
fn the_production_file_sets_only_known_variables() {
    let (compose, example) = (read("docker-compose.prod.yml"), read(".env.example"));
    let ours: BTreeSet<_> = example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    let lines = compose.lines().filter(|line| !line.trim_start().starts_with('#'));
    // Each on a separate line, or `{ <<: *settings, NAME: "value" }`.
    let pairs = lines.flat_map(|line| line.split(", ")).filter_map(|part| part.trim().split_once(": "));
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    // Variables with these prefixes are for other images. Linux capabilities are in capitals too, but are not followed
    // by a colon.
    let others = ["POSTGRES_", "RABBITMQ_", "GF_"];
    let set: BTreeSet<_> = pairs
        .map(|(name, _)| name)
        .filter(|name| is_name(name) && !others.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| name.strip_suffix("_FILE").unwrap_or(name))
        .collect();
    assert!(set.contains("DATABASE_URL") && set.contains("WORK_PORT"), "{set:?}");
    let unknown: Vec<_> = set.difference(&ours).collect();
    assert!(unknown.is_empty(), "docker-compose.prod.yml sets unknown variables: {unknown:?}");
}

/// Settings that operators can't change in either compose file, because the file depends on their values.
const FIXED: [&str; 6] = ["HOST", "PORT", "SHUTDOWN_DEADLINE", "WORK_PORT", "ORDERS_PORT", "DRAIN_DELAY"];
/// Settings that make no sense in a container: the embedded PostgreSQL, and files on a read-only file system.
const NOT_IN_CONTAINERS: [&str; 4] = ["SAGALINE_STATE_DIR", "SAGALINE_PG_BIN", "LOG_DIR", "LOG_KEEP_DAYS"];

#[test]
fn every_setting_can_be_set_in_both_compose_files() {
    let example = read(".env.example");
    let settings =
        example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let left_out: [(&str, &[&str]); 2] = [
        // All connections come from nginx, so a limit per address makes no sense, and the file itself gives each
        // service its port.
        (
            "docker-compose.prod.yml",
            &["AUTH", "METRICS_PUBLIC", "CONNECTIONS_PER_ADDRESS", "INVENTORY_PORT", "NOTIFICATIONS_PORT"],
        ),
        // One process serves all services.
        ("docker-compose.yml", &["DATABASE_URL", "INVENTORY_PORT", "NOTIFICATIONS_PORT"]),
    ];
    for (file, more) in left_out {
        let text = read(file);
        let is_passed = |name: &str| {
            let (own, file) = (format!("  {name}: ${{{name}:-"), format!("  {name}_FILE: /run/secrets/"));
            text.contains(&own) || text.contains(&file)
        };
        for (name, _) in settings.clone() {
            let has_no_place =
                FIXED.contains(&name) || NOT_IN_CONTAINERS.contains(&name) || more.contains(&name);
            assert!(is_passed(name) != has_no_place, "{file}: {name} is passed on: {}", is_passed(name));
        }
        assert!(
            text.contains("env_file: [\"${SETTINGS_FILE:-./deploy/settings.env}\"]"),
            "{file}: the services do not read SETTINGS_FILE"
        );
    }
}

#[tokio::test]
async fn each_service_alone_listens_on_its_own_port() {
    let services =
        [("orders", "ORDERS_PORT"), ("inventory", "INVENTORY_PORT"), ("notifications", "NOTIFICATIONS_PORT")];
    for (service, variable) in services {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let env =
            [("DATABASE_URL", "postgres://127.0.0.1:1/shop"), ("AUTH", "off"), (variable, port.as_str())];
        let mut process = crate::support::Process::sagaline(&["serve", "--service", service], &env);
        let code = process.wait().await.code();
        let output = process.output();
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(&format!("can't listen on 127.0.0.1:{port}")), "{service}: {output}");
        assert!(output.contains(variable), "{service}: {output}");
    }
}

#[test]
fn the_production_file_contains_no_secret() {
    let compose = read("docker-compose.prod.yml");
    for word in ["PASSWORD", "TOKEN", "_URL"] {
        for line in compose.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(": ") else { continue };
            let is_plain = name.contains(word) && !name.ends_with("_FILE");
            assert!(!is_plain, "{name} is given as {value}; give {name}_FILE");
        }
    }
}

/// The services of the production file, each with its lines.
fn services() -> BTreeMap<String, String> {
    let compose = read("docker-compose.prod.yml");
    let part = compose.split_once("\nservices:\n").unwrap().1.split_once("\nnetworks:\n").unwrap().0;
    let mut services: BTreeMap<String, String> = BTreeMap::new();
    let mut name = "";
    for line in part.lines().filter(|line| !line.is_empty()) {
        let inner = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        if let Some(service) = inner.and_then(|rest| rest.strip_suffix(':')) {
            name = service;
            continue;
        }
        let lines = services.entry(name.to_owned()).or_default();
        lines.push_str(line.trim());
        lines.push('\n');
    }
    services
}

#[test]
fn every_service_in_production_is_hardened_limited_and_health_checked() {
    let compose = read("docker-compose.prod.yml");
    let hardened = compose.split_once("x-hardened: &hardened\n").unwrap().1.split_once("\n\n").unwrap().0;
    for line in ["read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "restart: unless-stopped"] {
        assert!(hardened.contains(line), "{line} in {hardened}");
    }
    assert!(compose.contains("x-sagaline: &sagaline\n  <<: *hardened\n"));
    let services = services();
    assert!(services.len() >= 8, "{:?}", services.keys());
    for (name, lines) in &services {
        assert!(lines.contains("<<: *hardened") || lines.contains("<<: *sagaline"), "{name}: {lines}");
        assert!(lines.contains("limits: { memory: "), "{name} has no memory limit: {lines}");
        let ends = ["migrate", "console"].contains(&name.as_str());
        let is_watcher = ["prometheus", "grafana"].contains(&name.as_str());
        assert_eq!(lines.contains("healthcheck:"), !ends && !is_watcher, "{name}: {lines}");
        let is_ours = ["orders", "inventory", "notifications", "work"].contains(&name.as_str());
        assert_eq!(lines.contains("replicas: 2"), is_ours, "{name}: {lines}");
    }
    // The project names differ, because the development project is often removed together with its volumes, and that
    // must not touch production.
    assert!(compose.contains("\nname: sagaline-prod\n"));
    assert!(read("docker-compose.yml").contains("\nname: sagaline\n"));
}

#[test]
fn only_migrate_is_the_owner_of_the_database() {
    let services = services();
    for (name, lines) in &services {
        let uses = |secret: &str| lines.contains(&format!("/run/secrets/{secret}\n"));
        assert_eq!(uses("database_owner_url"), name == "migrate", "{name}: {lines}");
        assert_eq!(uses("postgres_password"), name == "postgres", "{name}: {lines}");
        let has = |secret: &str| {
            let secrets = lines.lines().filter_map(|line| line.strip_prefix("secrets: ["));
            secrets.flat_map(|list| list.trim_end_matches(']').split(", ")).any(|one| one == secret)
        };
        assert_eq!(has("database_owner_url"), name == "migrate", "{name}: {lines}");
        assert_eq!(has("database_owner_password"), name == "postgres", "{name}: {lines}");
    }
    assert!(services["migrate"].contains("\"--grant-to\", \"shop_process\""), "{}", services["migrate"]);
    let made = read("scripts/prod-secrets");
    for (secret, role) in [("database_owner_url", "shop_owner"), ("database_url", "shop_process")] {
        assert!(made.contains(&format!("keep {secret} \"postgres://{role}:")), "{secret}");
    }
    let roles = read("deploy/postgres/roles.sh");
    assert_eq!(roles.matches(" nosuperuser ").count(), 2, "{roles}");
}

/// The seconds after a name in a text.
fn seconds(text: &str, name: &str) -> u32 {
    let rest = text.split_once(name).unwrap_or_else(|| panic!("no {name}")).1;
    rest.trim_start().split('s').next().unwrap().parse().unwrap_or_else(|_| panic!("{name} has no seconds"))
}

#[test]
fn the_stop_grace_period_covers_every_part_of_a_shutdown() {
    let (compose, nginx) = (read("docker-compose.prod.yml"), read("deploy/nginx/nginx.conf"));
    let delay = seconds(&compose, "DRAIN_DELAY: ");
    let idle = seconds(nginx.split_once("upstream orders {").unwrap().1, "keepalive_timeout ");
    assert!(delay > idle && delay > seconds(&nginx, "127.0.0.11 valid="), "{delay} s, {idle} s");
    let grace = seconds(&compose, "stop_grace_period: ");
    // `Limits::drain`: how long open requests may take.
    let drain = 10;
    assert!(grace > delay + drain + seconds(&compose, "SHUTDOWN_DEADLINE: "), "{grace} s");
}
