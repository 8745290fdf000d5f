//! Checks ARCHITECTURE.md: which crates may depend on which, by `cargo metadata`, and the order of folders inside each
//! crate, by the sources.

mod arrows;
mod layers;
mod lexer;
mod logged_errors;
mod made_up_sources;
mod migrations;
mod modules;
mod orders;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// Each crate with the crates of ours that it may depend on.
const EDGES: [(&str, &[&str]); 7] = [
    ("sagaline-breakers", &[]),
    ("sagaline-devkit", &[]),
    ("sagaline-engine", &[]),
    ("sagaline-shop", &["sagaline-breakers", "sagaline-engine"]),
    ("sagaline-workers", &["sagaline-breakers", "sagaline-engine"]),
    ("sagaline-api", &["sagaline-breakers", "sagaline-engine", "sagaline-shop"]),
    (
        "sagaline",
        &[
            "sagaline-breakers",
            "sagaline-devkit",
            "sagaline-engine",
            "sagaline-shop",
            "sagaline-workers",
            "sagaline-api",
        ],
    ),
];

/// External crates with the crates of ours that alone may use them.
const RESERVED: [(&str, &[&str]); 9] = [
    ("axum", &["sagaline-api"]),
    // The shop describes its own inputs, behind the feature `openapi`.
    ("utoipa", &["sagaline-api", "sagaline-shop"]),
    ("utoipa-axum", &["sagaline-api"]),
    ("apalis", &["sagaline-workers"]),
    ("apalis-core", &["sagaline-workers"]),
    ("apalis-redis", &["sagaline-workers"]),
    ("redis", &["sagaline-workers"]),
    ("lapin", &["sagaline-workers"]),
    ("failsafe", &["sagaline-breakers"]),
];

/// The dependencies of every workspace crate, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_on_allowed_crates() {
    let dependencies = dependencies();
    let ours: BTreeSet<_> = dependencies.keys().cloned().collect();
    assert_eq!(ours, EDGES.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, allowed) in EDGES {
        let known: BTreeSet<_> = dependencies[name].intersection(&ours).map(String::as_str).collect();
        let unknown: Vec<_> = known.iter().filter(|known| !allowed.contains(known)).collect();
        assert!(unknown.is_empty(), "{name} must not depend on {unknown:?}");
    }
}

/// The fault hooks may be enabled only by dependencies of tests.
#[test]
fn no_normal_dependency_enables_the_fault_hooks() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "sagaline", "--edges", "normal,features", "--prefix", "none"])
        .args(["--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("sagaline-engine v"), "{tree}");
    let enabled: Vec<_> = tree.lines().filter(|line| line.contains("feature \"testing\"")).collect();
    assert!(enabled.is_empty(), "a release build has fault hooks: {enabled:?}");
}

#[test]
fn axum_and_apalis_are_dependencies_of_one_crate_each() {
    for (name, known) in dependencies() {
        for (reserved, owners) in RESERVED {
            assert!(
                owners.contains(&name.as_str()) || !known.contains(reserved),
                "{reserved} belongs to {owners:?}, not to {name}"
            );
        }
    }
}

#[test]
fn no_source_file_outside_the_engines_store_contains_sql_on_its_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let allowed = |path: &str| {
        path.starts_with("engine/src/store")
            || path.starts_with("engine/examples")
            || path.starts_with("tests/")
    };
    let mut unknown = Vec::new();
    for folder in ["devkit/src", "engine/src", "workers/src", "api/src", "workflows/src", "src"] {
        for file in files(&root.join(folder)) {
            let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&file).unwrap();
            let speaks = ["from engine.", "into engine.", "update engine.", "join engine."];
            if !allowed(&path) && speaks.iter().any(|words| text.contains(words)) {
                unknown.push(path);
            }
        }
    }
    assert!(unknown.is_empty(), "SQL on the engine's tables outside its store: {unknown:?}");
}

#[test]
fn imports_go_down_and_form_no_cycle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for one in orders::CRATES {
        let source = root.join(one.source);
        let sources: modules::Files = files(&source)
            .into_iter()
            .map(|file| {
                let name = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(&file).unwrap())
            })
            .collect();
        let arrows = arrows::arrows(&sources);
        let name = one.source;
        wrong.extend(one.upward(&arrows).iter().map(|violation| format!("{name}/{violation}")));
        for file in one.unplaced(sources.keys()) {
            wrong.push(format!("{name}/{file} is not in the order of folders"));
        }
        for circle in arrows::cycles(&arrows) {
            wrong.push(format!("{name}: these files use each other in a circle: {}", circle.join(", ")));
            let inside = |arrow: &&arrows::Arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to);
            wrong.extend(arrows.iter().filter(inside).map(|arrow| {
                format!("  {name}/{}:{} uses {} (`{}`)", arrow.from, arrow.line, arrow.to, arrow.path)
            }));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
