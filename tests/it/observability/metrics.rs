//! `/metrics` of real processes, checked by Prometheus' rules for names, types and help texts (as `promtool check
//! metrics` does; `scripts/check-deploy` runs the original).

use std::collections::{BTreeMap, BTreeSet};

use super::deployment::{Deployment, HttpProcess, until};

/// Metrics of the process itself, recorded on Linux.
pub(super) const OF_THE_PROCESS: [&str; 8] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
];

/// Metrics that a server and a worker have after orders were placed and run.
const OF_A_SERVER: [&str; 14] = [
    "sagaline_build_info",
    "sagaline_http_requests_total",
    "sagaline_http_request_duration_seconds",
    "sagaline_http_requests_in_flight",
    "sagaline_sagas_started_total",
    "sagaline_sagas",
    "sagaline_queue_depth",
    "sagaline_queue_oldest_due_seconds",
    "sagaline_db_pool_connections",
    "sagaline_db_pool_connections_max",
    "sagaline_db_pool_acquire_seconds",
    "sagaline_db_oldest_snapshot_seconds",
    "sagaline_db_replication_snapshot_transactions",
    "sagaline_scrape_failures_total",
];
const OF_A_WORKER: [&str; 14] = [
    "sagaline_sagas_ended_total",
    "sagaline_saga_duration_seconds",
    "sagaline_step_attempts_total",
    "sagaline_step_duration_seconds",
    "sagaline_batch_size",
    "sagaline_commits_total",
    "sagaline_leases_taken_over_total",
    "sagaline_worker_in_flight",
    "sagaline_mails_total",
    "sagaline_db_pool_acquire_seconds",
    // No such event has happened: the counters are zero, so that the first one shows as an increase.
    "sagaline_sagas_dead_lettered_total",
    "sagaline_sagas_lock_blocked_total",
    "sagaline_dead_jobs_archived_total",
    "sagaline_tasks_panicked_total",
];

/// One metric family of a scrape.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<String>,
}

/// Parses Prometheus' text format.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.into()).or_default().help = help.into();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let earlier = kinds.insert(name.to_owned(), kind.to_owned());
            assert!(earlier.is_none(), "{name} has its type twice");
            families.entry(name.into()).or_default().kind = kind.into();
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|stem| kinds.get(*stem).is_some_and(|kind| kind == "histogram"));
            families.entry(family.unwrap_or(name).into()).or_default().samples.push(line.into());
        }
    }
    families
}

/// The violations of Prometheus' rules by a metric.
fn violations(name: &str, family: &Family) -> Vec<String> {
    let mut violations = Vec::new();
    let mut check = |is_well: bool, flaw: &str| {
        if !is_well {
            violations.push(format!("{name}: {flaw}"));
        }
    };
    check(family.help.len() > 2, "has no help");
    check(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "has no type of ours");
    check((family.kind == "counter") == name.ends_with("_total"), "counters, and only they, end in _total");
    check(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "is not in snake case");
    let ends = ["_bucket", "_sum", "_count", "_counter", "_gauge", "_histogram"];
    check(!ends.iter().any(|end| name.ends_with(end)), "ends in a word that is reserved or says its type");
    let words: Vec<_> = name.split('_').collect();
    let units = ["ms", "milliseconds", "us", "minutes", "hours", "kb", "mb", "kilobytes", "percent"];
    check(!words.iter().any(|word| units.contains(word)), "is not in a base unit");
    if family.kind == "histogram" {
        check(family.samples.iter().any(|line| line.contains("le=\"+Inf\"")), "is a summary without buckets");
    }
    violations
}

async fn scrape(process: &HttpProcess) -> BTreeMap<String, Family> {
    let answer = process.get("/metrics").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    families(&answer.text().await.unwrap())
}

fn missing<'a>(wanted: &[&'a str], found: &BTreeMap<String, Family>) -> Vec<&'a str> {
    wanted
        .iter()
        .filter(|name| found.get(**name).is_none_or(|family| family.samples.is_empty()))
        .copied()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_worker_expose_the_documented_metrics_in_valid_form_under_load() {
    let deployment = Deployment::new().await;
    let (server, worker) = (deployment.serve(&[]).await, deployment.work().await);
    server.add_product("TEA-1", 20).await;
    let orders = (0..20).map(|_| server.settle("TEA-1", 1));
    for order in futures::future::join_all(orders).await {
        assert_eq!(order["status"], "confirmed", "{order}");
    }
    assert_eq!(server.settle("TEA-1", 1).await["status"], "rejected");
    assert_eq!(server.get("/api/orders/not-an-id").await.status(), 400);

    let described = super::docs_match_metrics::described();
    for (process, wanted) in [(&server, OF_A_SERVER.as_slice()), (&worker, OF_A_WORKER.as_slice())] {
        let found = until("all metrics to be shown", || async {
            let found = scrape(process).await;
            let missing = missing(wanted, &found);
            if missing.is_empty() { Ok(found) } else { Err(format!("{missing:?} are missing")) }
        })
        .await;
        if cfg!(target_os = "linux") {
            assert_eq!(missing(&OF_THE_PROCESS, &found), Vec::<&str>::new());
        }
        let violations: Vec<_> = found.iter().flat_map(|(name, family)| violations(name, family)).collect();
        assert!(violations.is_empty(), "{violations:#?}");
        let known = |name: &str| described.contains_key(name) || OF_THE_PROCESS.contains(&name);
        let strangers: BTreeSet<_> = found.keys().filter(|name| !known(name)).collect();
        assert!(strangers.is_empty(), "recorded, but not described: {strangers:?}");
    }

    let connections = &scrape(&server).await["sagaline_db_pool_connections_max"].samples;
    assert!(connections[0].ends_with(" 8"), "DATABASE_POOL_SIZE is 8: {connections:?}");
    let build = &scrape(&server).await["sagaline_build_info"].samples;
    assert!(build[0].contains("version=\"") && build[0].contains("revision=\""), "{build:?}");
    let dead_lettered = &scrape(&worker).await["sagaline_sagas_dead_lettered_total"].samples;
    for (step, direction) in
        [("reserve-stock", "action"), ("reserve-stock", "undo"), ("confirm-order", "action")]
    {
        let place = [format!("step=\"{step}\""), format!("direction=\"{direction}\"")];
        let zero = |line: &&String| place.iter().all(|label| line.contains(label)) && line.ends_with("} 0");
        assert!(dead_lettered.iter().any(|line| zero(&line)), "{step} {direction}: {dead_lettered:?}");
    }

    let of_orders = |line: &&String| line.contains("definition=\"place-order\"");
    let found = until("both endings to be counted", || async {
        let found = scrape(&worker).await;
        let lines: Vec<_> =
            found["sagaline_saga_duration_seconds"].samples.iter().filter(of_orders).cloned().collect();
        let count = |outcome: &str, number: u32| {
            let line = format!("outcome=\"{outcome}\"}} {number}");
            lines
                .iter()
                .any(|each| each.starts_with("sagaline_saga_duration_seconds_count") && each.ends_with(&line))
        };
        if count("completed", 20) && count("compensated", 1) { Ok(found) } else { Err(lines) }
    })
    .await;
    let ended: Vec<_> = found["sagaline_sagas_ended_total"].samples.iter().filter(of_orders).collect();
    assert!(ended.iter().any(|line| line.ends_with("outcome=\"completed\"} 20")), "{ended:?}");
    server.stops_cleanly().await;
    worker.stops_cleanly().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_exposes_open_breakers_and_the_lag_of_consumers() {
    let mut deployment = Deployment::new().await;
    // No server listens there.
    for (name, value) in [("AMQP_URL", "amqp://127.0.0.1:1"), ("REDIS_URL", "redis://127.0.0.1:1")] {
        deployment.set(name, value);
    }
    for dependency in ["AMQP", "REDIS"] {
        deployment.set(&format!("BREAKER_{dependency}_FAILURES"), "1");
        deployment.set(&format!("BREAKER_{dependency}_OPEN"), "1h");
    }
    let (server, worker) = (deployment.serve(&[]).await, deployment.work().await);
    server.add_product("TEA-1", 1).await;
    let wanted = [
        ("sagaline_breaker_state", "dependency=\"amqp\"", " 2"),
        ("sagaline_breaker_state", "dependency=\"redis\"", " 2"),
        ("sagaline_breaker_state", "dependency=\"smtp\"", " 0"),
        ("sagaline_redis_up", "", " 0"),
        ("sagaline_outbox_lag_events", "consumer=\"amqp\"", ""),
        ("sagaline_outbox_lag_seconds", "consumer=\"redis\"", ""),
    ];
    until("breakers and lags to be shown", || async {
        let found = scrape(&worker).await;
        let lacks = |(name, label, end): &(&str, &str, &str)| {
            let is_it = |line: &String| {
                line.contains(label) && line.ends_with(end) && (!end.is_empty() || !line.ends_with(" 0"))
            };
            !found.get(*name).is_some_and(|family| family.samples.iter().any(is_it))
        };
        let missing: Vec<_> = wanted.iter().filter(|wanted| lacks(wanted)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
    server.stops_cleanly().await;
    worker.stops_cleanly().await;
}

#[test]
fn an_invalid_scrape_is_detected() {
    let text = "# TYPE a_total gauge\na_total 1\n# HELP b_ms Time\n# TYPE b_ms gauge\nb_ms 1\n\
                # HELP c_seconds Time\n# TYPE c_seconds summary\nc_seconds_sum 1\n";
    let violations: Vec<_> =
        families(text).iter().flat_map(|(name, family)| violations(name, family)).collect();
    for flaw in
        ["a_total: has no help", "a_total: counters", "b_ms: is not in a base unit", "c_seconds: has no type"]
    {
        assert!(violations.iter().any(|found| found.starts_with(flaw)), "{flaw} in {violations:?}");
    }
}

#[tokio::test]
async fn a_worker_tells_that_a_consumer_was_removed_while_it_publishes_to_it() {
    let mut deployment = Deployment::new().await;
    // No server listens there: it is published to all the same.
    deployment.set("REDIS_URL", "redis://127.0.0.1:1");
    deployment.set("BREAKER_REDIS_OPEN", "100ms");
    let worker = deployment.work().await;
    let removed_is = async |value: &str| {
        let (name, end) = ("sagaline_event_consumer_removed", format!("consumer=\"redis\"}} {value}"));
        let found = scrape(&worker).await;
        let samples = found.get(name).map(|family| family.samples.clone()).unwrap_or_default();
        if samples.iter().any(|sample| sample.ends_with(&end)) { Ok(()) } else { Err(samples) }
    };
    let remove = async |more: &[&str]| {
        let args: Vec<_> = ["events", "remove", "redis"].iter().chain(more).copied().collect();
        let mut command = deployment.start(&args);
        command.wait().await;
        command.output()
    };
    until("the worker to publish", || async {
        let output = remove(&[]).await;
        if output.contains("a worker publishes to redis now") { Ok(()) } else { Err(output) }
    })
    .await;
    until("the metric", || removed_is("0")).await;
    let output = remove(&["--force", "--reason", "a test"]).await;
    assert!(output.contains("redis is removed"), "{output}");
    until("the worker to notice", || removed_is("1")).await;
    worker.stops_cleanly().await;
}
