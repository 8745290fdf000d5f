//! The dashboard, the alert rules and the runbook mention only existing metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use serde_json::Value;

use super::metrics::OF_THE_PROCESS;

/// A recorder that keeps the names and kinds of metrics.
#[derive(Default)]
struct Names(Mutex<BTreeMap<String, &'static str>>);

impl Names {
    fn note(&self, name: &KeyName, kind: &'static str) {
        let earlier = self.0.lock().unwrap().insert(name.as_str().into(), kind);
        assert!(earlier.is_none_or(|earlier| earlier == kind), "{} is described as two kinds", name.as_str());
    }
}

impl Recorder for Names {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, "counter");
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, "gauge");
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.note(&name, "histogram");
    }

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Every metric that the program describes, with its kind.
pub(super) fn described() -> BTreeMap<String, &'static str> {
    let names = Names::default();
    with_local_recorder(&names, sagaline::describe_metrics);
    names.0.into_inner().unwrap()
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metric names in a text: words that begin with `sagaline_` or `process_`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    let ours = |word: &&str| {
        (word.starts_with("sagaline_") || OF_THE_PROCESS.iter().any(|name| word.starts_with(name)))
            && !word.ends_with('_')
    };
    words.filter(ours).map(ToOwned::to_owned).collect()
}

/// The names in a text that belong to no metric; a histogram's series count as its names.
fn unknown_metrics(text: &str) -> Vec<String> {
    let described = described();
    let is_known = |name: &str| {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .is_some_and(|stem| described.get(stem) == Some(&"histogram"));
        of_histogram
            || described.get(name).is_some_and(|kind| *kind != "histogram")
            || OF_THE_PROCESS.contains(&name)
    };
    mentioned(text).into_iter().filter(|name| !is_known(name)).collect()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    targets.flatten().map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_uses_only_existing_metrics_and_no_fixed_data_source() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashboards/sagaline.json")).unwrap();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "{} panels", expressions.len());
    assert_eq!(unknown_metrics(&expressions.join("\n")), Vec::<String>::new());
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}

/// The values of `key: ` in a YAML file of ours, which has each on a separate line.
fn values<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    text.lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))
        .map(str::trim)
        .collect()
}

#[test]
fn every_alert_uses_existing_metrics_and_has_a_test_and_a_runbook_section() {
    let (rules, tests) = (read("deploy/prometheus/rules.yml"), read("deploy/prometheus/rules.test.yml"));
    assert_eq!(unknown_metrics(&rules), Vec::<String>::new());
    assert_eq!(unknown_metrics(&tests), Vec::<String>::new());
    let alerts = values(&rules, "alert:");
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, values(&tests, "alertname:"), "rules.yml and rules.test.yml differ");
    let runbook = read("docs/operations.md");
    let explained: BTreeSet<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Sagaline"))
        .map(|rest| format!("Sagaline{rest}"))
        .collect();
    assert_eq!(
        alerts,
        explained.iter().map(String::as_str).collect(),
        "rules.yml and docs/operations.md differ"
    );
    assert_eq!(unknown_metrics(&runbook), Vec::<String>::new());
}

/// Words after `sagaline_` in names of databases, which look like metrics.
const DATABASES: [&str; 1] = ["bench"];

#[test]
fn every_recorded_metric_is_described() {
    let mut recorded = BTreeSet::new();
    for file in source_folders().iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        let literals = text.split("\"sagaline_").skip(1).filter_map(|rest| rest.split('"').next());
        let names =
            literals.filter(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        let names = names.filter(|rest| !DATABASES.contains(rest));
        recorded.extend(names.map(|rest| format!("sagaline_{rest}")));
    }
    assert!(recorded.len() > 20, "{recorded:?}");
    let described = described();
    let unknown_metrics: Vec<_> = recorded.iter().filter(|name| !described.contains_key(*name)).collect();
    assert!(
        unknown_metrics.is_empty(),
        "recorded in the sources, but described nowhere: {unknown_metrics:?}"
    );
}

/// The source folders of all crates.
pub(super) fn source_folders() -> Vec<PathBuf> {
    let mut folders: Vec<_> = members().iter().map(|member| root().join(member).join("src")).collect();
    folders.push(root().join("src"));
    folders
}

/// The workspace's members.
pub(super) fn members() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    line.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

pub(super) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
